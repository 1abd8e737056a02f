"""RL-Restore: stepwise deep Q-learning with a recurrent state over the tools that were used."""
