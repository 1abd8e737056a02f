"""Agents and searches that do not learn."""

from opera_env.signals import signals_end_imports

signals_end_imports(__name__)
