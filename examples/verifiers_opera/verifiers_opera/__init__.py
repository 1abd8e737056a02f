"""Image restoration by tools for verifiers."""

from verifiers_opera.taskset import RestorationEnv, RestorationTaskset

__all__ = ["RestorationEnv", "RestorationTaskset"]
