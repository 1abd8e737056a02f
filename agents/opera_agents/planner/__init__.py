"""The planner, a small network that predicts degradations and a whole plan, and its training."""
