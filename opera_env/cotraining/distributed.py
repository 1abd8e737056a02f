"""Sums over the processes of a distributed run; without torch.distributed, values stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from opera_env.errors import ExecutionUpdateError


class DistributedContext:
    """Communication between all processes of a run.

    Every process must call the same methods in the same order, because each method waits for all processes.

    Args:
        device: Device of the tensors that are exchanged: the device of the tools.

    Attributes:
        is_distributed: Whether torch.distributed runs with more than one process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    def sum_scalars(self, values: Sequence[float]) -> list[float]:
        """Returns the sum of each value over all processes."""
        if not self.is_distributed:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float32, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def sum_tensors(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns the sum of each tensor over all processes; the tensors are sent as one message."""
        if not self.is_distributed:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        sums = flat.split([tensor.numel() for tensor in tensors])
        return [total.view(tensor.shape) for total, tensor in zip(sums, tensors, strict=True)]

    def raise_if_any_failed(self, failure: Exception | None) -> None:
        """Raises an error in every process if one of them has failed, so that none waits for it.

        Args:
            failure: The error of this process; None if it has not failed.

        Raises:
            Exception: ``failure``, if this process has failed.
            ExecutionUpdateError: If another process has failed.
        """
        num_failed = self.sum_scalars([float(failure is not None)])[0]
        if failure is not None:
            raise failure
        if num_failed:
            raise ExecutionUpdateError(
                "another process stopped with an error: see its output. No tool was changed."
            )
