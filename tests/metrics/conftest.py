"""8-bit photographs, and distortions of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from skimage import data
from torch import Tensor


@pytest.fixture(scope="session")
def photographs() -> Tensor:
    """Three textured crops, uint8 (3, 3, 128, 128)."""
    crops = (
        data.astronaut()[60:188, 150:278],
        data.chelsea()[80:208, 120:248],
        data.coffee()[100:228, 200:328],
    )
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def noisy(photographs: Tensor) -> Tensor:
    """The photographs with Gaussian noise of 20 grey levels, from a fixed seed."""
    noise = torch.from_numpy(default_rng(0).normal(0, 20, photographs.shape)).round()
    return (photographs + noise).clamp(0, 255).to(torch.uint8)
