"""From plans to images: schedule, batches, lanes, cache."""

from opera_env.execution.cache import PrefixCache
from opera_env.execution.run import MAX_UNTILED_PIXELS, ExecutionResult, Executor
from opera_env.execution.worker_pool import MAX_WORKERS, WorkerPool

__all__ = ["MAX_UNTILED_PIXELS", "MAX_WORKERS", "ExecutionResult", "Executor", "PrefixCache", "WorkerPool"]
