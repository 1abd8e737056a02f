"""The device that networks run on, and what it supports."""

from __future__ import annotations

import torch


def resolve_device(name: str = "auto") -> str:
    """Returns the device for a name: ``"auto"`` is CUDA where it is available, and the CPU otherwise.

    Args:
        name: ``"auto"``, or any name that torch knows, such as ``"cpu"`` or ``"cuda:1"``.

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def supports_bfloat16() -> bool:
    """Returns whether bfloat16 is fast here.

    A CPU without instructions for bfloat16 computes ten times more slowly in it than in float32.
    """
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
