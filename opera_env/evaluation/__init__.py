"""Agents and toolboxes measured: comparison, study, statistics."""
