"""The command ``opera-env``, as ``python -m opera_env``."""

from opera_env.cli import run

if __name__ == "__main__":
    run()
