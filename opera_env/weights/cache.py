"""Fetching weight files, and checking whether they are present and whole.

For tools and metrics alike. Nothing is fetched without being asked for: :func:`require` returns a file that
is present and whole or says how to get it, and :func:`fetch` gets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors.torch import save
from torch import Tensor

from opera_env.errors import DownloadError, MissingWeightsError, WeightsIntegrityError
from opera_env.files import atomic_write
from opera_env.weights.files import WEIGHT_FILES, WeightFile, get_weight_file
from opera_env.weights.http import console, download, expect_sha256
from opera_env.weights.sdist import ALEXNET, VGG16, Backbone
from opera_env.weights.tensors import load_tensors, tensors_sha256

Status: TypeAlias = Literal["present", "missing", "damaged"]


def require(name: str) -> Path:
    """Returns the path of a known weight file that is there and whole.

    Raises:
        MissingWeightsError: If it is not there; names the command that gets it.
        WeightsIntegrityError: If another file, or half a file, stands in its place.
    """
    weight = get_weight_file(name)
    if not weight.path.is_file():
        raise MissingWeightsError(name, weight.path, f"opera-env weights fetch {name}")
    expect_sha256(weight.path, weight.sha256, weight.digest())
    return weight.path


def status(name: str) -> Status:
    """Says whether a known weight file is there and whole; reads all of it."""
    try:
        require(name)
    except MissingWeightsError:
        return "missing"
    except WeightsIntegrityError:
        return "damaged"
    return "present"


def verify() -> dict[str, Status]:
    """Returns the status of every known weight file, by name."""
    return {weight.name: status(weight.name) for weight in WEIGHT_FILES}


def fetch(name: str, force: bool = False) -> Path:
    """Brings a known weight file to where it belongs.

    Args:
        name: One of :data:`WEIGHT_FILES`.
        force: Fetch it even if it is there and whole.

    Returns:
        Its path.

    Raises:
        DownloadError: If no place has it; lists the places and what went wrong.
    """
    weight = get_weight_file(name)
    if not force and status(name) == "present":
        return weight.path
    if weight.urls:
        return download(weight.urls, weight.path, weight.sha256)
    return _make(weight, *_CONVERTED[name])


_CONVERTED: Mapping[str, tuple[str, Backbone]] = {
    "lpips": ("alexnet", ALEXNET),
    "vgg16": ("vgg16_whole", VGG16),
}
"""Files that we make: of which other file, or of which convolutions out of a package index."""


def _make(weight: WeightFile, checkpoint: str, wanted: Backbone) -> Path:
    """Makes a file of convolutions; the result is the same wherever they came from."""
    places = {
        "torchvision's checkpoint": lambda: _torchvision_backbone(checkpoint, wanted),
        "the package index": wanted.read,
    }
    failures: list[str] = []
    for place, make in places.items():
        console.print(f"{weight.name}: from {place}")
        try:
            trunk = make()
            expect_sha256(place, weight.sha256, tensors_sha256(trunk))
        except (DownloadError, WeightsIntegrityError) as error:
            console.print(f"  failed: {error}")
            failures.append(f"{place}: {error}")
            continue
        with atomic_write(weight.path) as part:
            part.write_bytes(save(trunk))  # save_file would keep other users of the cache out
        return weight.path
    raise DownloadError(f"{weight.path.name} cannot be made:\n  " + "\n  ".join(failures))


def _torchvision_backbone(checkpoint: str, wanted: Backbone) -> dict[str, Tensor]:
    state = load_tensors(fetch(checkpoint))
    return {
        name: state[name].to(torch.float32).contiguous()
        for layer in wanted.layers
        for name in (f"features.{layer}.weight", f"features.{layer}.bias")
    }
