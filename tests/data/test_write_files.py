"""Existing files are not lost when photographs are written or when writing fails."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from opera_env.data.photo import FORMATS, Photo
from opera_env.data.read import read_photo
from opera_env.data.write import write_photo
from opera_env.errors import ImageFileError

Array = NDArray[Any]


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8) -> Array:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def named(folder: Path, kind: str, stem: str = "a") -> Path:
    return folder / f"{stem}{FORMATS[kind].suffixes[0]}"


@pytest.mark.parametrize("kind", FORMATS)
def test_files_are_overwritten_on_request_only(tmp_path: Path, kind: str) -> None:
    path = named(tmp_path, kind)
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_photo(path, Photo(noise(4, 4, 3), format=kind))
    assert path.read_bytes() == b"old"
    write_photo(path, Photo(noise(4, 4, 3), format=kind), overwrite=True)
    assert read_photo(path).size == (4, 4)
    assert list(tmp_path.iterdir()) == [path]


def test_the_target_of_a_link_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    (tmp_path / "a.png").symlink_to("old.png")
    with pytest.raises(FileExistsError):
        write_photo(tmp_path / "a.png", Photo(noise(4, 4, 3)))
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_paths_may_be_strings_and_folders_are_created(tmp_path: Path) -> None:
    path: Any = str(tmp_path / "new" / "deep" / "a.png")
    write_photo(path, Photo(noise(4, 4, 3)))
    assert read_photo(path).size == (4, 4)


ENCODERS = {
    "PNG": (imagecodecs, "png_encode"),
    "TIFF": (tifffile, "imwrite"),
    "JPEG": (Image.Image, "save"),
}

ERRORS = [
    (ValueError("first\nsecond"), "cannot be written: first second"),
    (RuntimeError(), "cannot be written: RuntimeError"),
    (MemoryError(), "does not fit into memory"),
]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(("error", "message"), ERRORS)
def test_a_failing_encoder_keeps_the_existing_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    error: Exception,
    message: str,
    overwrite: bool,
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    path = named(tmp_path, kind)
    if overwrite:
        path.write_bytes(b"old")
    monkeypatch.setattr(*ENCODERS[kind], fail)
    with pytest.raises(ImageFileError) as caught:
        write_photo(path, Photo(noise(4, 4, 3), format=kind), overwrite=overwrite)
    assert str(caught.value) == f"{path}: {message}"
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([b"old"] if overwrite else [])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_keeps_the_existing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    path = tmp_path / "a.png"
    if overwrite:
        path.write_bytes(b"old")
    real = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        real(self, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ImageFileError, match="No space left") as caught:
            write_photo(path, Photo(noise(4, 4, 3)), overwrite=overwrite)
    assert str(path) in str(caught.value)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([b"old"] if overwrite else [])


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").write_bytes(b"a file")
    with pytest.raises(ImageFileError, match="not a folder"):
        write_photo(tmp_path / "folder" / "a.png", Photo(noise(4, 4, 3)))
