"""The stepwise agent, trained by PPO, and the adapters to Stable-Baselines3."""

from opera_env.imports import require_packages

require_packages("agents", "stable_baselines3", "sb3_contrib")
