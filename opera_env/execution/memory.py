"""Measures the memory of calls, and of a tool per pixel; returns freed memory to the system."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opera_env.tools import Tool

_PROBE_SIDE = 128
"""Side, in pixels, of the image on which a tool is measured."""

_WORKSPACE_FACTOR = 1.6
"""Factor from the bytes of tensors to resident memory. Convolutions need a workspace beside their inputs
and outputs, and freed blocks of one size cannot always be used again for the next."""

_ASSUMED_BYTES_PER_PIXEL = 2048.0
"""Bytes per pixel of a network that cannot be measured: 512 channels at the size of the image."""


class _MemoryTracker(TorchDispatchMode):
    """Counts the bytes of the tensors that operations return, from creation to deletion.

    Attributes:
        live_bytes: Bytes of the tensors that are alive now.
        peak_bytes: Largest value of ``live_bytes`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._tracked: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._track(leaf.untyped_storage())
        return result

    def _track(self, storage: torch.UntypedStorage) -> None:
        if storage in self._tracked:
            return
        self._tracked.add(storage)
        size = storage.nbytes()
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._untrack, size)

    def _untrack(self, size: int) -> None:
        self.live_bytes -= size


def release_freed_memory() -> None:
    """Returns freed memory to the system where the C library keeps it, as glibc does.

    The blocks that the tiles of one tool leave behind have the wrong sizes for the next tool.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl does not have it
        if trim is not None:
            trim(0)


@torch.inference_mode()
def measure_bytes(work: Callable[[], object]) -> float:
    """Measures the peak memory of a call in bytes, without gradients: its tensors and workspace.

    It depends on the operations alone, so that it is the same each time.
    """
    with _MemoryTracker() as tracker:
        work()
    return _WORKSPACE_FACTOR * tracker.peak_bytes


@torch.inference_mode()
def bytes_per_pixel(tool: Tool, device: torch.device) -> float:
    """Measures the peak memory of a tool in bytes per pixel of its input.

    A tool that upscales is measured at constant size, where its result exists at both sizes. Of a network
    that runs outside torch a value is assumed.

    Args:
        tool: The tool.
        device: Device of the tool.
    """
    if tool.runs_outside_torch:
        return _ASSUMED_BYTES_PER_PIXEL
    image = torch.full((1, 3, _PROBE_SIDE, _PROBE_SIDE), 0.5, device=device)
    return measure_bytes(lambda: tool.apply(image, upscale=False)) / _PROBE_SIDE**2
