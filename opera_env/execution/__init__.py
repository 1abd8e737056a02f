"""From plans to images: schedule, batches, cache."""

from opera_env.execution.cache import PrefixCache
from opera_env.execution.run import Executor, Result

__all__ = ["Executor", "PrefixCache", "Result"]
