"""Image files and tensors: reading, writing, listing."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from opera_env.errors import ImageFileError, SampleError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_ORIENTATION = ExifTags.Base.Orientation
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""


def list_images(folder: Path | str) -> tuple[Path, ...]:
    """Lists the images directly in a folder, sorted by name.

    Raises:
        SampleError: If the folder does not exist or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SampleError(f"{folder}: expected a folder of images, found none there.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise SampleError(f"{folder}: no image in it ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return tuple(found)


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Reads an image file as 8-bit RGB, the EXIF orientation applied.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ImageFileError: If the file is absent, damaged or no image.
    """
    try:
        with Image.open(path) as picture:
            upright = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
            if upright is not None:
                return np.array(_to_rgb(picture).transpose(upright), np.uint8)
            return np.array(_to_rgb(picture), np.uint8)
    except UnidentifiedImageError as error:
        raise ImageFileError(path, "not an image file that can be read") from error
    except Image.DecompressionBombError as error:
        raise ImageFileError(path, f"refused, too many pixels: {error}") from error
    except (OSError, ValueError, SyntaxError, TypeError, struct.error) as error:
        raise ImageFileError(path, f"cannot be read: {error}") from error


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Converts to 8-bit RGB; 16-bit grey is scaled, which Pillow's own conversion would clip."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture, np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("expected 8 or 16 bits a channel, found more")
        picture = Image.fromarray((values // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("expected whole numbers, found floating point")
    return picture.convert("RGB")


def write_image(path: Path | str, image: NDArray[np.uint8]) -> None:
    """Writes uint8 (H, W, 3) as a file; the suffix says the format. Never leaves half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        Image.fromarray(image).save(partial, format=Image.registered_extensions()[path.suffix.lower()])
        os.replace(partial, path)
    except KeyError as error:
        raise ImageFileError(path, "unknown image format; use .png or .jpg") from error
    finally:
        partial.unlink(missing_ok=True)


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Turns uint8 (H, W, 3) into float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(torch.float32) / 255


def quantise(image: Tensor) -> Tensor:
    """Clamps float (..., 3, H, W) to [0, 1] and rounds it to uint8: done once, before metrics and files."""
    return image.clamp(0, 1).mul(255).round_().to(torch.uint8)


def to_array(image: Tensor) -> NDArray[np.uint8]:
    """Turns (3, H, W), uint8 or float in [0, 1], into uint8 (H, W, 3)."""
    image = image if image.dtype == torch.uint8 else quantise(image)
    return image.permute(1, 2, 0).cpu().numpy()


def to_pil(image: Tensor) -> Image.Image:
    """Turns (3, H, W), uint8 or float in [0, 1], into a PIL picture."""
    return Image.fromarray(to_array(image))


def read_images(paths: Iterable[Path]) -> list[NDArray[np.uint8]]:
    """Reads several image files; see :func:`read_image`."""
    return [read_image(path) for path in paths]
