"""Knows the images of a source by name and content, so that a replayed sample is the same picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opera_env.errors import SampleError
from opera_env.types import SampleSpec


def image_sha256(image: NDArray[np.uint8]) -> str:
    """Returns the SHA-256 of the size and the pixels of an image, uint8 (H, W, 3)."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def combine_hashes(hashes: Sequence[str]) -> str:
    """Returns one digest of several, in their order; a single one is returned as it is."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def find_image(
    spec: SampleSpec, source: str, names: Sequence[str], content: Callable[[int], str]
) -> tuple[int, SampleSpec]:
    """Finds the image of a specification in a source that may have changed since the sample was drawn.

    The name decides, and the content has to be the one that was drawn. An image that was renamed is found
    at its index, by its content.

    Args:
        spec: The specification.
        source: Name of the source.
        names: Names of the images of the source, in the order of their indices.
        content: Returns the digest of an image by index, as in ``SampleSpec.sha256``.

    Returns:
        The index of the image, and the specification with its name and digest.

    Raises:
        SampleError: If the specification is of another source, or the source has no such image, or its
            content differs.
    """
    if spec.source != source:
        raise SampleError(
            f"the sample was drawn from {spec.source!r}, this source is {source!r}: use "
            "the source that drew it."
        )
    if not spec.image and not 0 <= spec.index < len(names):
        raise SampleError(f"source {source!r} has images 0 to {len(names) - 1}, found {spec.index}.")
    found: dict[str, str] = {}
    for index in _candidates(spec, names):
        digest = content(index)
        if digest == spec.sha256 or (not spec.sha256 and spec.image in ("", names[index])):
            return index, replace(spec, image=spec.image or names[index], sha256=digest)
        found.setdefault(names[index], digest)
    label = spec.image or names[spec.index]
    if label not in found:
        raise SampleError(
            f"source {source!r} has no image {label!r}, of which the sample was made: put the file back, "
            "or use the source that drew the sample."
        )
    raise SampleError(
        f"image {label!r} of source {source!r}: expected the content {spec.sha256[:12]}..., found "
        f"{found[label][:12]}...: the file (or its reference or depth map) is not the one that the sample "
        "was made of: put that one back, or draw a new sample."
    )


def _candidates(spec: SampleSpec, names: Sequence[str]) -> Iterator[int]:
    """Yields indices of images that may be the one of a specification, the likeliest first."""
    in_range = 0 <= spec.index < len(names)
    same_place = in_range and spec.image in ("", names[spec.index])
    if same_place:
        yield spec.index
    if spec.image:
        yield from (index for index, name in enumerate(names) if name == spec.image and index != spec.index)
    if in_range and not same_place:
        yield spec.index
