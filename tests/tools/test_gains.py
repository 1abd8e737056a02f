"""The shipped networks do what they are for: mean PSNR gain on held-out photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from opera_env.data.images import list_images, quantise, read_images
from opera_env.tools import Toolbox, resize
from opera_env.tools.patches import stack, validation_pair
from opera_env.tools.train import psnr

LEAST = {
    "noise": 8.0,
    "rain": 10.0,
    "haze": 6.0,
    "defocus_blur": 3.0,
    "motion_blur": 1.0,
    "low_resolution": 1.0,
    "jpeg": 1.0,
}
"""dB on bsds500/val, centre crops of 128 pixels; for low_resolution over bicubic enlargement."""


@pytest.mark.slow
@pytest.mark.needs_shared_data
@pytest.mark.parametrize("degradation", LEAST)
def test_gain(degradation: str, shared_data: Path) -> None:
    tool = next(tool for tool in Toolbox.load("lite") if degradation in tool.degradations)
    gains: list[float] = []
    for seed, image in enumerate(read_images(list_images(shared_data / "bsds500" / "val"))):
        dirty, clean = stack([validation_pair(image, (degradation,), 128, seed)])
        with torch.inference_mode():
            restored = quantise(tool(dirty, (128, 128)))
        before = psnr(quantise(resize(dirty, (128, 128))), quantise(clean))
        gains.append((psnr(restored, quantise(clean)) - before).item())
    print(f"{tool.name}: {np.mean(gains):+.2f} dB, {np.sum(np.array(gains) < 0)} of {len(gains)} worse")
    assert np.mean(gains) >= LEAST[degradation]
