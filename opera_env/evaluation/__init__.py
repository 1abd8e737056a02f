"""Comparisons of agents, studies of plans, and the statistics of both."""
