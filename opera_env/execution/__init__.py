"""From plans to images: schedule, batches, lanes, cache."""

from opera_env.execution.cache import PrefixCache
from opera_env.execution.lanes import Lanes
from opera_env.execution.run import SMALL, Executor, Result

__all__ = ["SMALL", "Executor", "Lanes", "PrefixCache", "Result"]
