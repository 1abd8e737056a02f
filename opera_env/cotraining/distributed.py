"""What the processes of a distributed run tell each other; nothing at all where there is one process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from opera_env.errors import ExecutionUpdateError


class DistributedContext:
    """All processes of a run; every method must be called by each of them.

    Args:
        device: Where numbers travel from: that of the tools.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.many = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    def sum_scalars(self, values: Sequence[float]) -> list[float]:
        """Returns the sums over all processes."""
        if not self.many:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float32, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def sum_tensors(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns the sums over all processes, shape by shape, in one message."""
        if not self.many:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def raise_if_any_failed(self, failure: Exception | None) -> None:
        """Raises if any process has failed, so that none waits for it.

        Raises:
            Exception: This process's failure.
            ExecutionUpdateError: If another one has failed.
        """
        failed = self.sum_scalars([float(failure is not None)])[0]
        if failure is not None:
            raise failure
        if failed:
            raise ExecutionUpdateError("another process stopped, and says why: nothing was changed.")
