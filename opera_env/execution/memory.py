"""How much memory a tool takes: measured, as tools are anybody's networks."""

from __future__ import annotations

import ctypes
import sys
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opera_env.tools import Tool

_PROBE = 128
"""Side of the image that a tool is measured on."""

_WORKSPACE = 1.6
"""Convolutions take room of their own beside the tensors they are given and return, and freed blocks
of one size are not always of use for the next: resident memory grew by up to 1.6 times as much."""


class _Ledger(TorchDispatchMode):
    """Counts the bytes of all tensors that operations return, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.alive -= size


def release_freed_memory() -> None:
    """Returns freed memory to the system, where the C library keeps it for itself: glibc does.

    What one tool's tiles leave behind is of the wrong sizes for the next tool's.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


@torch.inference_mode()
def bytes_per_pixel(tool: Tool, device: torch.device) -> float:
    """Measures the most memory a tool holds at once, per pixel of the image it is given.

    Enlarging tools are measured at constant size, where they hold their result twice.
    """
    image = torch.full((1, 3, _PROBE, _PROBE), 0.5, device=device)
    with _Ledger() as ledger:
        tool.apply(image, upscale=False)
    return _WORKSPACE * ledger.peak / _PROBE**2
