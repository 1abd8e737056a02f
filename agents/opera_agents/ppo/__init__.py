"""The stepwise agent, trained by PPO, and the adapters to Stable-Baselines3."""
