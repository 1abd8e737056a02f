"""The mean PSNR gain of the shipped tools on validation photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opera_env.data.images import list_images, quantise, read_images, resize
from opera_env.tool_training.config import Pool
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.patches import DegradeFn, Pair, collate_pairs, validation_pair
from opera_env.tool_training.pools import find_spec, pool_specs
from opera_env.tool_training.train import psnr
from opera_env.tools import Tool, Toolbox

MIN_GAINS: dict[Pool, dict[str, tuple[tuple[str, ...], float]]] = {
    "lite": {
        "noise of sigma 15": (("unet.denoise_15", "nafnet.denoise_15"), 7.4),
        "noise of sigma 25": (("unet.denoise_25", "nafnet.denoise_25"), 8.8),
        "noise of sigma 50": (("unet.denoise_50", "nafnet.denoise_50"), 11.0),
        "noise of sigma 0 to 55": (("unet.denoise",), 8.0),
        "translucent streaks": (("nafnet.derain",), 9.5),
        "layers of streaks": (("unet.derain",), 8.5),
        "haze of independent depth": (("unet.dehaze",), 8.0),
        "camera shake": (("unet.motion_deblur", "unet.defocus_deblur"), 1.2),
        "lens blur": (("nafnet.defocus_deblur",), 2.7),
        "low_resolution": (("unet.super_resolution",), 1.1),
        "jpeg of quality 40": (("unet.dejpeg",), 1.0),
    },
    "lite-adapted": {
        "noise of sigma 15": (("unet.denoise_15", "nafnet.denoise_15"), 7.0),
        "noise of sigma 25": (("unet.denoise_25", "nafnet.denoise_25"), 8.4),
        "noise of sigma 50": (("unet.denoise_50", "nafnet.denoise_50"), 10.5),
        "noise": (("unet.denoise",), 8.0),
        "rain": (("unet.derain", "nafnet.derain"), 12.0),
        "haze": (("unet.dehaze",), 9.0),
        "defocus_blur": (("unet.defocus_deblur", "nafnet.defocus_deblur"), 4.5),
        "motion_blur": (("unet.motion_deblur",), 2.0),
        "low_resolution": (("unet.super_resolution", "unet.super_resolution_lpips"), 1.1),
        "jpeg": (("unet.dejpeg",), 1.15),
    },
}
"""Tools with the same training data, and the smallest gain of the best of them on such data, in dB on
centre crops of 128 pixels of bsds500/val. For low resolution, the gain is over bicubic enlargement."""

BELOW_ZERO = {"unet.super_resolution_lpips"}
"""Trained on a cascade with LPIPS: its PSNR is below that of the bicubic enlargement, as it should be."""

CASES = [(pool, case) for pool, cases in MIN_GAINS.items() for case in cases]


@pytest.mark.parametrize("pool", MIN_GAINS)
def test_min_gains_covers_all_trained_kinds_of_data(pool: Pool) -> None:
    specs = {spec.name: spec for spec in pool_specs(pool) if spec.steps}
    covered = {_data(specs[name]) for name in _names(pool)}
    others = {_data(spec) for spec in specs.values() if spec.name not in BELOW_ZERO}
    assert covered == others
    for names, _ in MIN_GAINS[pool].values():
        assert len({_data(specs[name]) for name in names}) == 1


def _data(spec: ToolSpec) -> DegradeFn | str:
    return spec.training_data or spec.degradation


def _names(pool: Pool) -> list[str]:
    return [name for names, _ in MIN_GAINS[pool].values() for name in names]


@pytest.mark.slow
@pytest.mark.needs_shared_data
@pytest.mark.parametrize(("pool", "case"), CASES)
def test_gain_of_the_best_tool(pool: Pool, case: str, shared_data: Path) -> None:
    names, min_gain = MIN_GAINS[pool][case]
    spec = find_spec(pool, names[0])
    photographs = read_images(list_images(shared_data / "bsds500" / "val"))
    pairs = [validation_pair(image, spec.degrade, 128, seed) for seed, image in enumerate(photographs)]
    toolbox = Toolbox.load(pool)
    assert all(find_spec(pool, name).degradation in toolbox[name].degradations for name in names)
    gains = {name: _gain(toolbox[name], pairs) for name in names}
    assert max(gains.values()) >= min_gain, gains


def _gain(tool: Tool, pairs: list[Pair]) -> float:
    gains: list[float] = []
    for pair in pairs:
        degraded, clean = collate_pairs([pair])
        with torch.inference_mode():
            restored = quantise(tool(degraded, (128, 128)))
        before = psnr(quantise(resize(degraded, (128, 128))), quantise(clean))
        gains.append((psnr(restored, quantise(clean)) - before).item())
    print(f"{tool.name}: {np.mean(gains):+.2f} dB, {np.sum(np.array(gains) < 0)} of {len(gains)} worse")
    return float(np.mean(gains))
