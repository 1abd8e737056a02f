"""Functions that the writers of all formats share: the order of channels, and up-to-date EXIF data."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from opera_env.data.exif import ORIENTATION_TAG, copy_exif
from opera_env.data.photo import Photo, Pixels


def interleave_alpha(photo: Photo) -> Pixels:
    """Returns the channels of a photograph: (H, W) for grey, else (H, W, C) with alpha last."""
    if photo.alpha is not None:
        return np.concatenate([photo.pixels, photo.alpha[..., None]], axis=2)
    return photo.pixels[..., 0] if photo.pixels.shape[2] == 1 else photo.pixels


def current_exif(photo: Photo) -> Image.Exif | None:
    """Returns a copy of the EXIF data with the current size of the photograph, or None if it has none."""
    if photo.exif is None:
        return None
    exif = copy_exif(photo.exif)
    exif.pop(ORIENTATION_TAG, None)
    if ExifTags.IFD.Exif in exif:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        height, width = photo.size
        for tag, value in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
            if tag in details:
                details[tag] = value
    return exif
