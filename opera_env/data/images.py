"""Image files and tensors: listing, reading, writing and converting."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from opera_env.data.photo import Photo
from opera_env.data.pixels import apply_orientation
from opera_env.data.read import check_complete, has_tiff_signature, load_with_exif, open_image, read_photo
from opera_env.errors import ImageFileError, SampleError
from opera_env.files import atomic_write
from opera_env.types import Canvas

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def list_images(folder: Path | str) -> tuple[Path, ...]:
    """Lists the images directly in a folder, sorted by name.

    Raises:
        SampleError: If the folder does not exist or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SampleError(f"{folder}: expected a folder of images, found no folder: check the path.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise SampleError(
            f"{folder}: expected images, found no file that ends in {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return tuple(paths)


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Reads an image file as 8-bit RGB, with the EXIF orientation applied.

    Args:
        path: The file, in any format that Pillow reads.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ImageFileError: If the file is absent, damaged or not an image.
    """
    path = Path(path)
    if has_tiff_signature(path):
        return _photo_to_rgb(read_photo(path))
    with open_image(path) as image:
        check_complete(path, image)
        _, orientation = load_with_exif(image, str(image.format), notices=[])
        return apply_orientation(np.array(_to_rgb(image), np.uint8), orientation)


def _photo_to_rgb(photo: Photo) -> NDArray[np.uint8]:
    """Converts the colours of a photograph to 8-bit RGB."""
    levels = photo.pixels if photo.bits == 8 else photo.pixels // 257
    return np.array(np.broadcast_to(levels, (*photo.size, 3)), np.uint8)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts to 8-bit RGB; 16-bit grey is scaled, while the conversion of Pillow would clip it."""
    if image.mode.startswith("I"):
        values = np.asarray(image, np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("expected 8 or 16 bits a channel, found more")
        image = Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("expected whole numbers, found floating-point numbers")
    return image.convert("RGB")


def write_image(path: Path | str, image: NDArray[np.uint8]) -> None:
    """Writes an image file atomically.

    Args:
        path: The file; its suffix selects the format.
        image: uint8 RGB (H, W, 3).

    Raises:
        ImageFileError: If the suffix is not that of a known format.
    """
    path = Path(path)
    format_name = Image.registered_extensions().get(path.suffix.lower())
    if format_name is None:
        raise ImageFileError(path, "unknown image format; use .png or .jpg")
    with atomic_write(path) as part:
        Image.fromarray(image).save(part, format=format_name)


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Converts an image, uint8 (H, W, 3), to float32 (3, H, W) in [0, 1]."""
    writable = image.copy()  # cached images may be read-only, of which torch warns
    return torch.from_numpy(writable).permute(2, 0, 1).to(torch.float32) / 255


def quantise(image: Tensor) -> Tensor:
    """Clamps images, float (..., 3, H, W), to [0, 1] and rounds them to uint8.

    This happens once for each result, before metrics are computed or a file is written.
    """
    return image.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def to_array(image: Tensor) -> NDArray[np.uint8]:
    """Converts an image (3, H, W), uint8 or float in [0, 1], to uint8 (H, W, 3)."""
    image = image if image.dtype == torch.uint8 else quantise(image)
    return image.permute(1, 2, 0).cpu().numpy()


def to_pil(image: Tensor) -> Image.Image:
    """Converts an image (3, H, W), uint8 or float in [0, 1], to a PIL image."""
    return Image.fromarray(to_array(image))


def read_images(paths: Iterable[Path]) -> list[NDArray[np.uint8]]:
    """Reads several image files; see :func:`read_image`."""
    return [read_image(path) for path in paths]


def resize(image: Tensor, size: Canvas) -> Tensor:
    """Resizes images (B, 3, h, w) to (B, 3, H, W) by antialiased bicubic interpolation.

    Images that already have this size are returned as they are.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False)
