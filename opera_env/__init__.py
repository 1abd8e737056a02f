"""Image restoration as a reinforcement-learning problem.

    import gymnasium as gym
    import opera_env

    env = gym.make("OPERA-Restore-v0")

Importing this package registers the environments with Gymnasium and does nothing else.
"""

from opera_env.signals import signals_end_imports

signals_end_imports("opera_env", script="opera-env")  # before the imports that take time

from opera_env.envs.registration import register_all  # noqa: E402 - it imports Gymnasium

__version__ = "0.2.0"

register_all()
