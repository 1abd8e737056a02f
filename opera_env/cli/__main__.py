"""``python -m opera_env.cli`` is the command ``opera-env``."""

import sys

from opera_env.cli import main

if __name__ == "__main__":
    sys.exit(main())
