"""The device that networks run on, and what it supports."""

from __future__ import annotations

import torch

from opera_env.errors import DeviceError, error_message


def resolve_device(name: str = "auto") -> str:
    """Returns the device for a name: ``"auto"`` is CUDA where it is available, and the CPU otherwise.

    Args:
        name: ``"auto"``, or any name that torch knows, such as ``"cpu"`` or ``"cuda:1"``.

    Raises:
        DeviceError: If torch does not know the name, or cannot use the device.

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(name)).item()  # "meta" has no values
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = error_message(error).split(". ")[0].rstrip(".")
        raise DeviceError(
            f"expected 'auto', 'cpu' or another device that torch can use here, such as 'cuda:0', found "
            f"{name!r} ({reason})."
        ) from error
    return name


def supports_bfloat16() -> bool:
    """Returns whether bfloat16 is fast here.

    A CPU without instructions for bfloat16 computes ten times more slowly in it than in float32.
    """
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
