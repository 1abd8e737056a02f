"""Classical restoration without learning, of OpenCV and scikit-image, as tools of a toolbox.

Example:
    toolbox = classical_toolbox()
    toolbox.save("runs/classical")
    # opera-env compare --toolbox runs/classical --trust-code --agents untouched,single:classical.clahe
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opera_env.data.images import to_array, to_tensor
from opera_env.tools import Toolbox

Image = NDArray[np.uint8]
"""RGB, uint8 (H, W, 3)."""


def clahe(images: Tensor) -> Tensor:
    """Contrast-limited adaptive histogram equalisation of lightness, for low light."""

    def apply(image: Image) -> Image:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lab[..., 0])
        return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)

    return _each(images, apply)


def dark_channel(images: Tensor) -> Tensor:
    """Dehazing by the dark channel prior.

    Source: He et al., "Single Image Haze Removal Using Dark Channel Prior", 2009, with windows of 15
        pixels, omega 0.95, and the guided filter of their later paper.
    """
    from opera_env.degradations.depth import guided_filter

    def apply(image: Image) -> Image:
        light = np.asarray(image, np.float32) / 255
        kernel = np.ones((15, 15), np.uint8)
        dark = cv2.erode(light.min(2), kernel)
        brightest = dark.ravel().argsort()[-max(1, dark.size // 1000) :]
        airlight = light.reshape(-1, 3)[brightest].max(0)
        haze = cv2.erode((light / np.maximum(airlight, 1e-3)).min(2), kernel)
        transmission = np.asarray(1 - 0.95 * haze, np.float32)
        grey = np.asarray(light.mean(2), np.float32)
        smooth = np.clip(guided_filter(grey, transmission, radius=20, epsilon=1e-3), 0.1, 1)[..., None]
        return _to_uint8((light - airlight) / smooth + airlight)

    return _each(images, apply)


def non_local_means(images: Tensor) -> Tensor:
    """Denoising by non-local means, with the strength of the estimated noise."""

    def apply(image: Image) -> Image:
        sigma = 255 * estimate_noise(image)
        return np.asarray(
            cv2.fastNlMeansDenoisingColored(image, None, 0.9 * sigma, 0.9 * sigma, 5, 15), np.uint8
        )

    return _each(images, apply)


def wavelet(images: Tensor) -> Tensor:
    """Denoising by wavelet shrinkage; it needs PyWavelets."""
    from skimage.restoration import denoise_wavelet  # imports scipy, which takes long

    def apply(image: Image) -> Image:
        light = np.asarray(image, np.float32) / 255
        restored = denoise_wavelet(
            light, convert2ycbcr=True, channel_axis=-1, method="BayesShrink", rescale_sigma=True
        )
        return _to_uint8(restored)

    return _each(images, apply)


def total_variation(images: Tensor) -> Tensor:
    """Denoising by total variation, with a weight in proportion to the estimated noise."""
    from skimage.restoration import denoise_tv_chambolle  # imports scipy, which takes long

    def apply(image: Image) -> Image:
        light = np.asarray(image, np.float32) / 255
        return _to_uint8(
            denoise_tv_chambolle(light, weight=max(1e-3, 1.2 * estimate_noise(image)), channel_axis=-1)
        )

    return _each(images, apply)


def richardson_lucy(images: Tensor) -> Tensor:
    """Deblurring by ten steps of Richardson-Lucy, for an assumed Gaussian blur of 1.5 pixels."""

    def apply(image: Image) -> Image:
        light = np.asarray(image, np.float32) / 255 + 1e-3
        estimate = light.copy()
        for _ in range(10):
            ratio = light / np.maximum(cv2.GaussianBlur(estimate, (0, 0), 1.5), 1e-4)
            estimate = estimate * cv2.GaussianBlur(ratio, (0, 0), 1.5)
        return _to_uint8(estimate - 1e-3)

    return _each(images, apply)


def unsharp_mask(images: Tensor) -> Tensor:
    """Sharpening by an unsharp mask of radius 1.5 and amount 1."""

    def apply(image: Image) -> Image:
        light = np.asarray(image, np.float32) / 255
        return _to_uint8(2 * light - cv2.GaussianBlur(light, (0, 0), 1.5))

    return _each(images, apply)


CLASSICAL: Mapping[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "classical.clahe": (clahe, "low_light"),
    "classical.dark_channel": (dark_channel, "haze"),
    "classical.non_local_means": (non_local_means, "noise"),
    "classical.wavelet": (wavelet, "noise"),
    "classical.total_variation": (total_variation, "noise"),
    "classical.richardson_lucy": (richardson_lucy, "defocus_blur"),
    "classical.unsharp_mask": (unsharp_mask, "low_resolution"),
}
"""The tools by name, with the degradation that each is for."""


def classical_toolbox() -> Toolbox:
    """Returns a toolbox of all classical tools, which can be saved."""
    toolbox = Toolbox()
    for name, (function, degradation) in CLASSICAL.items():
        toolbox.add(name, f"{__name__}:{function.__name__}", degradations=[degradation])
    return toolbox


def estimate_noise(image: Image) -> float:
    """Returns the standard deviation of the noise of an image, in [0, 1].

    Source: Immerkaer, "Fast Noise Variance Estimation", 1996.
    """
    grey = image.astype(np.float32).mean(2) / 255
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.sqrt(np.pi / 2) * np.abs(cv2.filter2D(grey, -1, kernel)).mean() / 6)


def _each(images: Tensor, apply: Callable[[Image], Image]) -> Tensor:
    """Applies a function of 8-bit images to a batch, float32 (B, 3, H, W)."""
    restored = [to_tensor(apply(np.ascontiguousarray(to_array(image.clamp(0, 1))))) for image in images]
    return torch.stack(restored).to(images.device)


def _to_uint8(light: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(255 * light), 0, 255), np.uint8)
