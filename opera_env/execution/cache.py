"""A bounded cache of restored images."""

from __future__ import annotations

import mmap
from collections import OrderedDict

import torch
from torch import Tensor

from opera_env.types import Plan

Key = tuple[str, str, Plan]
"""``Sample.key``, fingerprint of the toolbox, tools applied."""


_MIN_MAPPED_BYTES = 4 * mmap.PAGESIZE
"""Smaller images are kept as tensors: pages of their own would waste much of the last page."""


class _MappedImage:
    """An image on memory pages of its own.

    Whatever stays in the heap among the short-lived tensors of networks splits its free memory into gaps
    that larger tensors do not fit, so that the process grows by far more than is kept. Therefore not even
    the small objects that make up a tensor are kept, and the pages return to the system with the image.

    Args:
        image: An image in the memory of the CPU.
    """

    def __init__(self, image: Tensor) -> None:
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        self._pages = mmap.mmap(-1, image.nbytes, **private)
        self._shape, self._dtype, self.nbytes = tuple(image.shape), image.dtype, image.nbytes
        self.tensor().copy_(image)

    def tensor(self) -> Tensor:
        """Returns a new tensor on the pages, which live as long as the last of these tensors."""
        return torch.frombuffer(self._pages, dtype=self._dtype).view(self._shape)

    def __reduce__(self) -> tuple[type[_MappedImage], tuple[Tensor]]:
        return _MappedImage, (self.tensor(),)


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
        self._images: OrderedDict[Key, _MappedImage | Tensor] = OrderedDict()

    def get(self, key: Key) -> Tensor | None:
        """Returns the image, float32 (3, H, W), or None if the cache does not hold it."""
        image = self._images.get(key)
        if image is None:
            return None
        self._images.move_to_end(key)
        self.hits += 1
        return image.tensor() if isinstance(image, _MappedImage) else image

    def put(self, key: Key, image: Tensor) -> None:
        """Stores a copy of an image, so that the batch that it is part of can be freed."""
        if key in self._images or image.nbytes > self.max_bytes:
            return
        mapped = image.device.type == "cpu" and image.nbytes >= _MIN_MAPPED_BYTES
        self._images[key] = _MappedImage(image) if mapped else image.clone()
        self._bytes += image.nbytes
        while self._bytes > self.max_bytes:
            _, oldest = self._images.popitem(last=False)
            self._bytes -= oldest.nbytes

    def clear(self) -> None:
        """Removes all images."""
        self._images.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)
