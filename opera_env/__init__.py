"""Image restoration as a reinforcement-learning problem.

    import gymnasium as gym
    import opera_env

    env = gym.make("OPERA-Restore-v0")

Importing this package registers the environments with Gymnasium and does nothing else.
"""

import sys
from contextlib import nullcontext
from pathlib import PurePath

from opera_env.signals import signals_end_the_process

_IS_COMMAND = PurePath(*sys.argv[:1]).stem == "opera-env"

# A command that is interrupted while it starts ends in one line; a program that imports this package keeps
# its own handlers.
with signals_end_the_process() if _IS_COMMAND else nullcontext():
    from opera_env.envs.registration import register_all

__version__ = "0.1.0"

register_all()
