"""The tools of the pool ``lite-adapted``: those of ``lite``, trained on the benchmark's degradations.

Names, networks and sizes are those of :mod:`opera_env.tool_training.lite_tools`. Each tool was trained
alone on its own degradation as the benchmark draws it, so this pool is the control of co-training: adapted
to the benchmark, without chains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from opera_env.degradations.camera import Noise
from opera_env.tool_training.lite_tools import LITE_TOOLS, ToolSpec
from opera_env.tool_training.patches import DegradeFn

_TRAINING: Mapping[str, tuple[DegradeFn | None, int]] = {
    "unet.denoise": (None, 8_000),
    "unet.denoise_15": (Noise("gaussian", 15), 2_000),
    "unet.denoise_25": (Noise("gaussian", 25), 2_000),
    "unet.denoise_50": (Noise("gaussian", 50), 2_000),
    "nafnet.denoise_15": (Noise("gaussian", 15), 2_000),
    "nafnet.denoise_25": (Noise("gaussian", 25), 6_000),
    "nafnet.denoise_50": (Noise("gaussian", 50), 2_000),
    "nafnet.derain": (None, 14_000),
    "unet.derain": (None, 16_000),
    "unet.dehaze": (None, 10_000),
    "unet.defocus_deblur": (None, 14_000),
    "nafnet.defocus_deblur": (None, 9_000),
    "unet.motion_deblur": (None, 14_000),
    "unet.super_resolution": (None, 14_000),
    "unet.super_resolution_lpips": (None, 5_000),
    "unet.dejpeg": (None, 14_000),
}
"""Training data and number of steps of each tool with weights; None is the benchmark's degradation."""


def _adapted(spec: ToolSpec) -> ToolSpec:
    if spec.name not in _TRAINING:  # the brighteners are constants
        return spec
    training_data, steps = _TRAINING[spec.name]
    return replace(spec, training_data=training_data, steps=steps)


ADAPTED_TOOLS: tuple[ToolSpec, ...] = tuple(_adapted(spec) for spec in LITE_TOOLS)
