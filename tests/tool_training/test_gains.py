"""The mean PSNR gain of the shipped tools on validation photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opera_env.data.images import list_images, quantise, read_images, resize
from opera_env.tool_training.lite_tools import LITE_TOOLS, ToolSpec
from opera_env.tool_training.patches import Pair, collate_pairs, validation_pair
from opera_env.tool_training.train import psnr
from opera_env.tools import Tool, Toolbox

MIN_GAINS: dict[str, tuple[tuple[str, ...], float]] = {
    "noise of sigma 50": (("unet.denoise_50", "nafnet.denoise_50"), 9.0),
    "noise": (("unet.denoise",), 8.0),
    "rain": (("unet.derain", "nafnet.derain"), 12.0),
    "haze": (("unet.dehaze",), 9.0),
    "defocus_blur": (("unet.defocus_deblur", "nafnet.defocus_deblur"), 4.5),
    "motion_blur": (("unet.motion_deblur",), 2.0),
    "low_resolution": (("unet.super_resolution", "unet.super_resolution_lpips"), 1.1),
    "jpeg": (("unet.dejpeg",), 1.15),
}
"""Tools for one degradation, and the smallest gain of the best of them, in dB on centre crops of 128 pixels
of bsds500/val. For low_resolution, the gain is over bicubic enlargement. For "noise", the strength is drawn
as in the benchmark."""


def test_min_gains_covers_the_degradations_of_all_trained_tools() -> None:
    specs = {spec.name: spec for spec in LITE_TOOLS}
    covered = {specs[name].degradation for names, _ in MIN_GAINS.values() for name in names}
    assert covered == {spec.degradation for spec in LITE_TOOLS if spec.steps}
    for names, _ in MIN_GAINS.values():
        assert len({(specs[name].degradation, specs[name].training_data) for name in names}) == 1


@pytest.mark.slow
@pytest.mark.needs_shared_data
@pytest.mark.parametrize("case", MIN_GAINS)
def test_gain_of_the_best_tool(case: str, shared_data: Path) -> None:
    names, min_gain = MIN_GAINS[case]
    spec = next(spec for spec in LITE_TOOLS if spec.name == names[0])
    photographs = read_images(list_images(shared_data / "bsds500" / "val"))
    pairs = [validation_pair(image, spec.degrade, 128, seed) for seed, image in enumerate(photographs)]
    box = Toolbox.load("lite")
    gains = {name: _gain(box[name], spec, pairs) for name in names}
    assert max(gains.values()) >= min_gain, gains


def _gain(tool: Tool, spec: ToolSpec, pairs: list[Pair]) -> float:
    assert spec.degradation in tool.degradations
    gains: list[float] = []
    for pair in pairs:
        degraded, clean = collate_pairs([pair])
        with torch.inference_mode():
            restored = quantise(tool(degraded, (128, 128)))
        before = psnr(quantise(resize(degraded, (128, 128))), quantise(clean))
        gains.append((psnr(restored, quantise(clean)) - before).item())
    print(f"{tool.name}: {np.mean(gains):+.2f} dB, {np.sum(np.array(gains) < 0)} of {len(gains)} worse")
    return float(np.mean(gains))
