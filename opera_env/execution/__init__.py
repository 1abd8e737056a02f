"""From plans to images: schedule, batches, lanes, cache."""

from opera_env.execution.cache import PrefixCache
from opera_env.execution.run import SMALL, Executor, Result
from opera_env.execution.worker_pool import MOST_LANES, Lanes

__all__ = ["MOST_LANES", "SMALL", "Executor", "Lanes", "PrefixCache", "Result"]
