"""Pixels of 8 bits a channel, decoded by Pillow."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from opera_env.data.photo import Pixels

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def decode_8bit(image: Image.Image, notices: list[str]) -> tuple[Pixels, bytes | None]:
    """Converts a loaded image to grey or RGB.

    Args:
        image: An image in any mode of 8 bits.
        notices: A notice of each conversion is appended.

    Returns:
        uint8 (H, W, C), C from 1 to 4 with alpha last, and the colour profile.
    """
    profile = image.info.get("icc_profile")
    mode = image.mode
    if mode in ("CMYK", "LAB"):
        notices.append(f"{mode} colours became sRGB")
        return np.asarray(convert_to_srgb(image, profile, notices)), SRGB.tobytes()
    if mode in ("P", "PA"):
        notices.append("the palette became full colour")
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    grey = mode in ("1", "L", "LA", "La")
    target = ("LA" if has_alpha else "L") if grey else ("RGBA" if has_alpha else "RGB")
    if mode == "La":  # premultiplied; Pillow converts this mode in two steps only
        image = image.convert("LA")
    if mode == "L" and has_alpha:  # one grey level is transparent
        image = image.convert("RGBA")
    return np.atleast_3d(np.asarray(image.convert(target))), profile


def convert_to_srgb(image: Image.Image, profile: bytes | None, notices: list[str]) -> Image.Image:
    """Converts CMYK or CIELAB through the profile of the file, CMYK without one by Pillow's formula."""
    try:
        if profile is not None:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
        elif image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB")
        assert converted is not None  # None is returned for conversion in place only
        return converted
    except (ImageCms.PyCMSError, OSError) as error:
        if image.mode == "LAB":
            raise
        notices.append(f"its colour profile cannot be used ({error})")
        return image.convert("RGB")


def is_lossless_webp(path: Path) -> bool:
    """Returns whether the first image of a WebP file is encoded without loss."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            chunk, size = head[:4], int.from_bytes(head[4:], "little")
            if chunk in (b"VP8 ", b"VP8L"):
                return chunk == b"VP8L"
            # A frame of an animation contains chunks, after a header of 16 bytes.
            file.seek(16 if chunk == b"ANMF" else size + size % 2, os.SEEK_CUR)
    return False
