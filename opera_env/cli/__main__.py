"""``python -m opera_env.cli`` is the command ``opera-env``."""

from opera_env.cli import run

if __name__ == "__main__":
    run()
