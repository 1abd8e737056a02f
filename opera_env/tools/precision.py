"""Tools at reduced precision, as far as their results agree with float32."""

from __future__ import annotations

import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from opera_env.errors import OperaWarning, ToolboxError, error_message
from opera_env.tools.tool import Tool

MIN_AGREEMENT = 50.0
"""PSNR in dB, of a tool's result at reduced precision with its result in float32, below which the tool
stays in float32. At 50 dB the difference is 0.8 levels of 8 bits (root mean square), and the PSNR of a
result that has 30 dB moves by 0.04 dB; publications report differences between restorers of 0.1 dB. Of the
tools of ``lite`` all but one have 51 dB or more in bfloat16, and all of them 66 dB or more in float16."""

_WINDOW = (slice(100, 228), slice(160, 288))
"""The part of the photograph on which results are compared: face, hair, cloth and background."""

_NOISE = 15 / 255


class Precision:
    """Runs networks under autocast, each after a test of its accuracy at its first use.

    The test is always on the same window of a photograph that comes with scikit-image, so that the
    precision of a tool depends on its weights and on the device, not on the images that it restores.

    Args:
        dtype: ``torch.bfloat16`` or ``torch.float16``.
        device: Device of the tools.

    Raises:
        ToolboxError: If it is another data type.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        if dtype not in (torch.bfloat16, torch.float16):
            raise ToolboxError(f"expected float32, bfloat16 or float16 as precision, found {dtype}.")
        self.dtype, self.device = dtype, device
        self._is_accurate: dict[int, bool] = {}  # by the identity of the network
        self._lock = threading.Lock()

    def context(self, tool: Tool) -> AbstractContextManager[object]:
        """Returns the context in which a tool runs: autocast, or none if the tool stays in float32.

        Args:
            tool: The tool, with its weights on the device. The first call tests it, which may warn.
        """
        if not tool.parameters or tool.runs_outside_torch:
            return nullcontext()
        with self._lock:
            if id(tool.restore) not in self._is_accurate:
                reason = self._find_reason_against(tool)
                self._is_accurate[id(tool.restore)] = reason is None
                if reason is not None:
                    notice = OperaWarning(f"tool {tool.name!r} runs in float32: {reason}.")
                    warnings.warn(notice, stacklevel=2)
        return self._autocast() if self._is_accurate[id(tool.restore)] else nullcontext()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype)

    @torch.inference_mode()
    def _find_reason_against(self, tool: Tool) -> str | None:
        """Compares the precisions; returns why a tool has to stay in float32, or None if it need not."""
        window = _test_window().to(self.device, memory_format=torch.channels_last)
        name = str(self.dtype).removeprefix("torch.")
        expected = tool.apply(window, upscale=True)
        try:
            with self._autocast():
                found = tool.apply(window, upscale=True)
        except (RuntimeError, TypeError, ValueError) as error:  # of an operation without this data type
            return f"it fails in {name} ({error_message(error)})"
        agreement = -10 * torch.log10((found - expected).square().mean()).item()
        if agreement >= MIN_AGREEMENT:
            return None
        return f"in {name} it agrees with float32 to {agreement:.1f} of {MIN_AGREEMENT:g} dB"


@cache
def _test_window() -> Tensor:
    """Returns a noisy window of a photograph, float32 (1, 3, 128, 128)."""
    import skimage.data  # takes long, and most runs do not need it

    pixels = torch.from_numpy(skimage.data.astronaut()[_WINDOW].copy())
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return (pixels / 255 + _NOISE * noise).permute(2, 0, 1)[None]
