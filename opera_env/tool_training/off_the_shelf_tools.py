"""The tools of the off-the-shelf pool: the networks of ``lite``, trained on data like their originals'.

Names, networks and sizes are those of :mod:`opera_env.tool_training.lite_tools`. Only the training data and
the number of steps differ: no tool has seen the degradations of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from opera_env.degradations.camera import Jpeg, LowResolution
from opera_env.tool_training.lite_tools import LITE_TOOLS, ToolSpec
from opera_env.tool_training.original_data import (
    CameraShake,
    GaussianNoise,
    IndependentHaze,
    LayeredRain,
    LensBlur,
    RandomCascade,
    VeiledRain,
)
from opera_env.tool_training.patches import DegradeFn

_TRAINING: Mapping[str, tuple[DegradeFn, int]] = {
    "unet.denoise": (GaussianNoise(0, 55), 16_000),
    "unet.denoise_15": (GaussianNoise(15, 15), 4_000),
    "unet.denoise_25": (GaussianNoise(25, 25), 4_000),
    "unet.denoise_50": (GaussianNoise(50, 50), 4_000),
    "nafnet.denoise_15": (GaussianNoise(15, 15), 4_000),
    "nafnet.denoise_25": (GaussianNoise(25, 25), 12_000),
    "nafnet.denoise_50": (GaussianNoise(50, 50), 4_000),
    "nafnet.derain": (LayeredRain(), 16_000),
    "unet.derain": (VeiledRain(), 20_000),
    "unet.dehaze": (IndependentHaze(), 14_000),
    "unet.defocus_deblur": (LensBlur(), 20_000),
    "nafnet.defocus_deblur": (LensBlur(), 12_000),
    "unet.motion_deblur": (CameraShake(), 24_000),
    "unet.super_resolution": (LowResolution(), 16_000),
    "unet.super_resolution_lpips": (RandomCascade(), 12_000),
    "unet.dejpeg": (Jpeg(40), 16_000),
}
"""Training data and number of steps of each tool with weights."""


def _off_the_shelf(spec: ToolSpec) -> ToolSpec:
    if spec.name not in _TRAINING:  # the brighteners are constants
        return spec
    training_data, steps = _TRAINING[spec.name]
    return replace(spec, training_data=training_data, steps=steps)


OFF_THE_SHELF_TOOLS: tuple[ToolSpec, ...] = tuple(_off_the_shelf(spec) for spec in LITE_TOOLS)
