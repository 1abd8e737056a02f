"""The tools of the pool ``real``: networks of ``lite``, and one for exposure, trained on real damage.

Each is trained alone, on its own degradation as cameras, weather and the web make it. All but the tool for
exposure start from the weights of a tool of ``lite``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opera_env.tool_training import real_data
from opera_env.tool_training.lite_tools import LITE_TOOLS, ToolSpec
from opera_env.tool_training.losses import ZeroReference
from opera_env.tool_training.patches import DegradeFn

_LITE_OPTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    spec.name: (spec.net, spec.options) for spec in LITE_TOOLS
}


def _started(
    name: str, degradation: str, data: DegradeFn, start: str | None = None, **settings: Any
) -> ToolSpec:
    """Returns the spec of a tool that starts from a tool of ``lite``, by default from its namesake."""
    start = name if start is None else start
    net, options = _LITE_OPTIONS[start]
    return ToolSpec(
        name,
        degradation,
        net,
        options,
        data,
        initial_tool=start,
        **{"steps": 10_000, "margin": 16, "lr": 5e-4, **settings},
    )


REAL_TOOLS: tuple[ToolSpec, ...] = (
    _started("unet.denoise", "noise", real_data.NOISE),
    _started("nafnet.denoise", "noise", real_data.NOISE, start="nafnet.denoise_25"),
    _started("nafnet.derain", "rain", real_data.RAIN, margin=32),
    _started("unet.dehaze", "haze", real_data.HAZE, patch_size=128, batch_size=4, steps=14_000),
    _started("unet.defocus_deblur", "defocus_blur", real_data.DEFOCUS, steps=14_000),
    _started("unet.motion_deblur", "motion_blur", real_data.SHAKE, margin=32, steps=14_000),
    _started("unet.super_resolution", "low_resolution", real_data.SMALL, patch_size=128, batch_size=4),
    _started("unet.sharpen", "low_resolution", real_data.ENLARGED, start="unet.defocus_deblur"),
    _started("unet.dejpeg", "jpeg", real_data.COMPRESSION),
    _started("unet.deprocess", "over_processed", real_data.PROCESSING, start="unet.dejpeg"),
    ToolSpec(
        "expose.light",
        "low_light",
        "expose",
        training_data=real_data.EXPOSURE,
        steps=14_000,
        patch_size=192,
        batch_size=4,
        margin=0,
        lr=1e-3,
        loss_reduction=4,
        zero_reference=ZeroReference(exposure=0.02, colour=0.02, spatial=0.05, smoothness=0.01),
    ),
)
