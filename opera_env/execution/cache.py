"""A bounded cache of restored images."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from opera_env.types import Plan

Key = tuple[str, str, Plan]
"""``Sample.key``, fingerprint of the toolbox, tools applied."""


class PrefixCache:
    """A least-recently-used cache of the images after each prefix of a plan.

    The fingerprint of the toolbox is part of the key, so images that earlier weights have made are never
    returned after the tools were trained. An image is returned bit by bit as it was stored.

    Args:
        max_bytes: Size of the cache in bytes. The least recently used images are dropped beyond it.

    Attributes:
        hits: Number of successful look-ups.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self._bytes = 0
        self._images: OrderedDict[Key, Tensor] = OrderedDict()

    def get(self, key: Key) -> Tensor | None:
        """Returns the image, float32 (3, H, W), or None if the cache does not hold it."""
        image = self._images.get(key)
        if image is not None:
            self._images.move_to_end(key)
            self.hits += 1
        return image

    def put(self, key: Key, image: Tensor) -> None:
        """Stores an image. A view of a larger batch is copied, so that the batch can be freed."""
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
