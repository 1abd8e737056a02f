"""The table of weight files: name, path on this machine, hash and addresses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from opera_env.errors import DownloadError, UnknownPresetError
from opera_env.files import file_sha256
from opera_env.weights.tensors import load_tensors, tensors_sha256


def cache_dir() -> Path:
    """Returns the cache folder: ``$OPERA_ENV_CACHE``, or ``opera-env`` in the cache folder of the user.

    Raises:
        DownloadError: If the user has no home folder, and no variable names another one.
    """
    folder = os.environ.get("OPERA_ENV_CACHE")
    try:
        if folder:
            return Path(folder).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "opera-env"
    except RuntimeError as error:
        raise DownloadError(f"no folder for weight files ({error}): set OPERA_ENV_CACHE to one.") from error


@dataclass(frozen=True)
class WeightFile:
    """A weight file that is not part of the package.

    Attributes:
        name: Name for ``opera-env weights fetch``.
        filename: Path below the folder that ``home`` selects.
        sha256: SHA-256 of the file, or at least its first 8 digits where the publisher states no more. For
            a file that is built, SHA-256 of its tensors, see :func:`opera_env.weights.tensors_sha256`.
        urls: Addresses of the file, tried in order; empty for a file that is built from another one.
        description: One line for ``opera-env weights list``.
        max_bytes: Upper bound of the size of a download, a little above the size of the file.
        home: ``"torch"`` for the folder of torch.hub, which pyiqa and torchvision share; ``"opera"`` for
            :func:`cache_dir`.
    """

    name: str
    filename: str
    sha256: str
    urls: tuple[str, ...]
    description: str
    max_bytes: int = 0
    home: Literal["torch", "opera"] = "torch"

    @property
    def path(self) -> Path:
        """Path of the file on this machine, whether or not it exists."""
        return (Path(torch.hub.get_dir()) if self.home == "torch" else cache_dir()) / self.filename

    def digest(self) -> str:
        """Returns the hash of the existing file, to be compared with ``sha256``."""
        return file_sha256(self.path) if self.urls else tensors_sha256(load_tensors(self.path))


def _pyiqa_urls(filename: str) -> tuple[str, ...]:
    return (
        f"https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/{filename}",
        f"https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/{filename}",
    )


_CLIP_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"

WEIGHT_FILES: tuple[WeightFile, ...] = (
    WeightFile(
        name="lpips",
        # Not torchvision's file name, because the file holds five layers only and the folder may be shared.
        filename="lpips_alex.safetensors",
        sha256="dad556f11d2a50ed4dc90e8eebf7ef8d3494e51dc5dda06d7972984533778242",
        urls=(),
        description="LPIPS: five convolutions of AlexNet, 10 MB, built from 'alexnet' or a package",
        home="opera",
    ),
    WeightFile(
        name="alexnet",
        filename="checkpoints/alexnet-owt-7be5be79.pth",
        sha256="7be5be79",
        urls=("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        description="torchvision's AlexNet, 233 MB, from which 'lpips' is built",
        max_bytes=270_000_000,
    ),
    WeightFile(
        name="vgg16",
        filename="vgg16_relu4_3.safetensors",
        sha256="1c198732b83fe2daa016be9c6fac6864ce46fea0fefd6bf4f543f606832ca881",
        urls=(),
        description="ten convolutions of VGG16, 31 MB, for training tools, from 'vgg16_whole' or a package",
        home="opera",
    ),
    WeightFile(
        name="vgg16_whole",
        filename="checkpoints/vgg16-397923af.pth",
        sha256="397923af",
        urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
        description="torchvision's VGG16, 528 MB, from which 'vgg16' is built",
        max_bytes=600_000_000,
    ),
    WeightFile(
        name="vgg19",
        filename="checkpoints/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9d",
        urls=("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",),
        description="torchvision's VGG19, 548 MB, for training tools with the paper's loss",
        max_bytes=600_000_000,
    ),
    WeightFile(
        name="musiq",
        filename="pyiqa/musiq_koniq_ckpt-e95806b9.pth",
        sha256="e95806b9",
        urls=_pyiqa_urls("musiq_koniq_ckpt-e95806b9.pth"),
        description="MUSIQ trained on KonIQ-10k, 104 MB",
        max_bytes=120_000_000,
    ),
    WeightFile(
        name="clipiqa",
        filename="clip/RN50.pt",
        sha256=_CLIP_RN50,
        urls=(f"https://openaipublic.azureedge.net/clip/models/{_CLIP_RN50}/RN50.pt",),
        description="CLIP-IQA: CLIP with a ResNet-50, 244 MB",
        max_bytes=270_000_000,
    ),
    WeightFile(
        name="maniqa",
        filename="pyiqa/ckpt_koniq10k.pt",
        sha256="a207f8ab57322e6be38ff5c8d019301dc032b454bef21c3c9f9dbf7974eebff6",
        urls=(
            "https://github.com/IIGROUP/MANIQA/releases/download/Koniq10k/ckpt_koniq10k.pt",
            *_pyiqa_urls("ckpt_koniq10k.pt"),
        ),
        description="MANIQA trained on KonIQ-10k, its ViT included, 543 MB",
        max_bytes=600_000_000,
    ),
)
"""The weight files of metrics and losses."""


def get_weight_file(name: str) -> WeightFile:
    """Returns the entry of :data:`WEIGHT_FILES` of that name.

    Raises:
        UnknownPresetError: If there is no such entry.
    """
    for weight in WEIGHT_FILES:
        if weight.name == name:
            return weight
    raise UnknownPresetError("weight file", name, [weight.name for weight in WEIGHT_FILES])
