"""Turns plans into images: schedule, batches, worker pool, tiles and cache."""

from opera_env.execution.cache import PrefixCache
from opera_env.execution.run import ExecutionResult, Executor
from opera_env.execution.tool_runner import MAX_UNTILED_PIXELS
from opera_env.execution.worker_pool import MAX_WORKERS, WorkerPool

__all__ = ["MAX_UNTILED_PIXELS", "MAX_WORKERS", "ExecutionResult", "Executor", "PrefixCache", "WorkerPool"]
