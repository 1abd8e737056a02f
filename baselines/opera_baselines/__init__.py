"""Agents and searches that do not learn."""
