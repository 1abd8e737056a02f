"""The stepwise agent, trained by PPO, and the adapters between this world and Stable-Baselines3."""
