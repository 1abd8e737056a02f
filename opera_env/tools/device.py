"""The device that tools run on."""

from __future__ import annotations

import torch


def resolve_device(name: str = "auto") -> str:
    """Returns the device for a name: ``"auto"`` is CUDA where it is available, else the CPU.

    Args:
        name: ``"auto"``, or any name that torch knows, such as ``"cpu"`` or ``"cuda:1"``.

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
