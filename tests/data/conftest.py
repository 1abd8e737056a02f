"""Pictures in which every pixel says where it is, so that a shift by one shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray


def _chart(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Row in red, column in green, noise in blue; uint8 (H, W, 3), sides below 256."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 256, (height, width))
    return np.stack([rows, columns, noise], axis=2).astype(np.uint8)


@pytest.fixture(scope="session")
def chart() -> Callable[..., NDArray[np.uint8]]:
    return _chart
