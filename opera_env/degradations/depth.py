"""Depth maps for haze: read from a file, or generated from the image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from opera_env.degradations.base import Depth, Uint8Image
from opera_env.errors import SampleError

DEPTH_SUFFIXES = (".mat", ".npy", ".png")


def procedural_depth(image: Uint8Image, rng: Generator) -> Depth:
    """Generates a plausible depth map for an image whose depth was not measured.

    The map is a vertical ramp (the top is far) plus low-frequency noise, smoothed by a guided filter so
    that depth changes where the image does.

    Args:
        image: uint8 RGB (H, W, 3).
        rng: Generator of the noise and of the weight of the ramp.

    Returns:
        float32 (H, W) in [0, 1] with maximum 1.
    """
    height, width = image.shape[:2]
    ramp = np.repeat(np.linspace(1, 0, height, dtype=np.float32)[:, None], width, axis=1)
    coarse = rng.random((4, 4), np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    ramp_weight = np.float32(rng.uniform(0.5, 0.8))
    depth = np.asarray(ramp_weight * ramp + (1 - ramp_weight) * np.asarray(noise, np.float32), np.float32)
    guide = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / 255, np.float32)
    depth = guided_filter(guide, depth, radius=max(2, min(height, width) // 8), epsilon=1e-2)
    depth -= min(float(depth.min()), 0.0)
    return depth / max(float(depth.max()), 1e-6)


def guided_filter(
    guide: NDArray[np.float32], signal: NDArray[np.float32], radius: int, epsilon: float
) -> NDArray[np.float32]:
    """Smooths a map and keeps the edges of an image.

    Args:
        guide: Grey image in [0, 1], float32 (H, W).
        signal: The map, float32 (H, W).
        radius: Radius of the windows in pixels.
        epsilon: Variance of the guide, of 1, above which an edge is kept.

    Source: He, Sun and Tang, "Guided Image Filtering", 2010.
    """

    def mean(array: NDArray[np.float32]) -> NDArray[np.float32]:
        side = 2 * radius + 1
        return np.asarray(cv2.blur(array, (side, side)), np.float32)

    guide_mean, signal_mean = mean(guide), mean(signal)
    covariance = mean(guide * signal) - guide_mean * signal_mean
    variance = mean(guide * guide) - guide_mean * guide_mean
    slope = np.asarray(covariance / (variance + epsilon), np.float32)
    offset = signal_mean - slope * guide_mean
    return mean(slope) * guide + mean(np.asarray(offset, np.float32))


def read_depth(path: Path, size: tuple[int, int]) -> Depth:
    """Reads a depth map and resamples it to the size of an image.

    Args:
        path: ``.mat`` with the variable ``data_obj`` (the maps of the benchmark, a quarter of the image's
            size), ``.npy`` or greyscale ``.png``; larger values are farther.
        size: (H, W) of the image.

    Returns:
        float32 (H, W), divided by its maximum.

    Raises:
        SampleError: If the file holds no usable depth map.
    """
    try:
        depth = np.asarray(_read_map(path))
    except (OSError, ValueError, EOFError) as error:
        raise SampleError(f"{path}: cannot be read as a depth map: {error}") from error
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind not in "fiu":
        raise SampleError(
            f"{path}: expected an (H, W) array of numbers, found {depth.dtype} {depth.shape}."
        )
    if depth.shape != size:
        smaller = depth.shape[0] > size[0] or depth.shape[1] > size[1]
        method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        depth = cv2.resize(depth.astype(np.float64), (size[1], size[0]), interpolation=method)
    depth = np.maximum(np.asarray(depth, np.float64), 0)
    if not np.isfinite(depth).all() or depth.max() <= 0:
        raise SampleError(f"{path}: expected finite depths of which some are positive.")
    return (depth / depth.max()).astype(np.float32)


def _read_map(path: Path) -> ArrayLike:
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return _read_mat(path)
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    image = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError("not a readable greyscale image")
    return image


def _read_mat(path: Path) -> ArrayLike:
    # Imported here because few folders have such files, and every start would wait for the import.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(str(path))
    except MatReadError as error:
        raise ValueError(str(error)) from error
    if "data_obj" not in content:
        raise ValueError(f"expected a variable 'data_obj', found {sorted(content)}")
    return content["data_obj"]


def resize_depth(depth: Depth, size: tuple[int, int]) -> Depth:
    """Resamples a depth map to (H, W) by averaging areas; a no-op at equal size."""
    if depth.shape == size:
        return depth
    return np.asarray(cv2.resize(depth, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.float32)


def find_depth(folder: Path, stem: str) -> Path | None:
    """Returns the depth map of an image, ``STEM.{mat,npy,png}`` or ``STEM/predict_depth.mat``, or None."""
    for suffix in DEPTH_SUFFIXES:
        if (path := folder / f"{stem}{suffix}").is_file():
            return path
    nested = folder / stem / "predict_depth.mat"
    return nested if nested.is_file() else None
