"""A bounded memory of images that tools have made."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from opera_env.types import Plan

Key = tuple[str, str, Plan]
"""Digest of image and canvas, fingerprint of the toolbox, tools applied."""


class PrefixCache:
    """Keeps the most recently used images up to a number of bytes.

    The fingerprint is part of the key, so nothing made by earlier weights is served after
    the tools were trained. What it returns is what was put in, bit by bit.

    Args:
        max_bytes: Oldest entries go when the images take more than this.

    Attributes:
        hits: How often something was found.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self._bytes = 0
        self._images: OrderedDict[Key, Tensor] = OrderedDict()

    def get(self, key: Key) -> Tensor | None:
        """Returns float32 (3, H, W), or None."""
        image = self._images.get(key)
        if image is not None:
            self._images.move_to_end(key)
            self.hits += 1
        return image

    def put(self, key: Key, image: Tensor) -> None:
        """Keeps an image; a copy, if it is a view of a larger batch."""
        if key in self._images or image.nbytes > self.max_bytes:
            return
        if image.untyped_storage().nbytes() > image.nbytes:
            image = image.clone()
        self._images[key] = image
        self._bytes += image.nbytes
        while self._bytes > self.max_bytes:
            _, oldest = self._images.popitem(last=False)
            self._bytes -= oldest.nbytes

    def __len__(self) -> int:
        return len(self._images)
