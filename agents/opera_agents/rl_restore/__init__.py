"""RL-Restore: stepwise deep Q-learning with a recurrent state over the tools that were used."""

from opera_env.imports import require_packages

require_packages("agents", "stable_baselines3")
