"""The command ``opera-env``, as ``python -m opera_env``."""

import sys

from opera_env.cli import main

if __name__ == "__main__":
    sys.exit(main())
