"""Classical tools: each does what it is for, and the toolbox of all of them can be saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from opera_baselines.classical import CLASSICAL, classical_toolbox, estimate_noise
from opera_env.data.images import to_tensor
from opera_env.tools import Toolbox

PHOTOGRAPH: NDArray[np.uint8] = data.astronaut()[0:192, 128:320].copy()
CLEAN = to_tensor(PHOTOGRAPH)[None]


def psnr(image: Tensor) -> float:
    return float(-10 * torch.log10((image - CLEAN).square().mean()))


def run(name: str, image: Tensor) -> Tensor:
    if name == "classical.wavelet":
        pytest.importorskip("pywt")
    result = CLASSICAL[name][0](image)
    assert result.shape == image.shape and result.dtype == torch.float32
    assert result.min() >= 0 and result.max() <= 1
    return result


def noisy(sigma: float) -> Tensor:
    noise = torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(0))
    return (CLEAN + sigma / 255 * noise).clamp(0, 1)


def blurred(sigma: float) -> Tensor:
    import cv2

    return to_tensor(np.asarray(cv2.GaussianBlur(PHOTOGRAPH, (0, 0), sigma), np.uint8))[None]


@pytest.mark.parametrize("tool", ["non_local_means", "wavelet", "total_variation"])
def test_denoisers_raise_the_psnr_of_noisy_images(tool: str) -> None:
    image = noisy(20)
    assert psnr(run(f"classical.{tool}", image)) > psnr(image) + 1.5


@pytest.mark.parametrize("tool", ["richardson_lucy", "unsharp_mask"])
def test_deblurrers_raise_the_psnr_of_blurred_images(tool: str) -> None:
    image = blurred(1.5)
    assert psnr(run(f"classical.{tool}", image)) > psnr(image) + 0.3


def test_the_dark_channel_removes_white_haze() -> None:
    """Haze of its own model: bright air and one transmission. Of darker air it often makes things worse."""
    hazy = 0.4 * CLEAN + 0.6 * 0.9
    assert psnr(run("classical.dark_channel", hazy)) > psnr(hazy) + 3


def test_clahe_raises_the_contrast_of_dark_images() -> None:
    dark = CLEAN * 0.25
    assert run("classical.clahe", dark).std() > 1.2 * dark.std()


def test_the_noise_of_an_image_is_estimated() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert estimate_noise(grey) == 0
    image = np.random.default_rng(0).normal(128, 20, (128, 128))[..., None].repeat(3, 2)
    assert estimate_noise(image.astype(np.uint8)) == pytest.approx(20 / 255, rel=0.1)


def test_the_toolbox_can_be_saved_and_loaded(tmp_path: Path) -> None:
    classical_toolbox().save(tmp_path / "classical")
    loaded = Toolbox.load(tmp_path / "classical", trust_code=True)
    assert loaded.names == tuple(CLASSICAL)
    image = CLEAN[..., :40, :50]
    result = loaded["classical.unsharp_mask"](image, (40, 50))
    assert torch.equal(result, CLASSICAL["classical.unsharp_mask"][0](image))
