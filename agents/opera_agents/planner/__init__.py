"""The compact one-shot planner and how it learns."""
