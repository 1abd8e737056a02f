"""Hundreds of odd image files: each is read as what it is or refused in one line; nothing is half written.

The promises are in ``tests/faults/odd_images/image.py``: of valid files the pixels, transparency and
profile are known, or decoded by another library.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opera_env.cli import main
from opera_env.data.photo import Photo
from opera_env.data.read import read_photo, read_size
from opera_env.errors import ImageFileError
from tests.faults.conftest import Counts
from tests.faults.odd_images.collection import odd_images, write_odd_images
from tests.faults.odd_images.image import Array, OddImage

PLAN = "brighten.gamma_correction"
MOST_SECONDS, MOST_BYTES = 10.0, 400e6
"""For one file: these are small files, whatever they claim."""


@dataclass(frozen=True)
class Reading:
    """What happened when a file was read in a process of its own kind.

    Attributes:
        error: The message of the refusal; None if the file was read.
        seconds: The time it took.
        grown: Bytes by which the largest memory of the process grew.
    """

    error: str | None
    seconds: float
    grown: float


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read_all(folder: Path, names: list[str]) -> list[Reading]:
    """Reads files one after the other; runs in a fresh process, so that the memory is its own."""
    read_photo(folder / names[0])  # loads the libraries
    found = []
    for name in names:
        start, peak = time.perf_counter(), _peak()
        try:
            read_photo(folder / name)
            error = None
        except ImageFileError as refusal:
            error = str(refusal)
        found.append(Reading(error, time.perf_counter() - start, _peak() - peak))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd") / "in"


@pytest.fixture(scope="module")
def images(folder: Path) -> dict[str, OddImage]:
    return write_odd_images(folder)


@pytest.fixture(scope="module")
def readings(folder: Path, images: dict[str, OddImage]) -> dict[str, Reading]:
    """All files, read in one other process; a crash of a decoder would end it."""
    names = sorted(images)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return dict(zip(names, pool.submit(_read_all, folder, names).result(timeout=300), strict=True))


def test_there_are_at_least_600_and_always_the_same(images: dict[str, OddImage]) -> None:
    again = odd_images()
    assert len(images) >= 600
    assert {name: image.data for name, image in again.items()} == {
        name: image.data for name, image in images.items()
    }


def test_each_is_read_or_refused_in_one_line(
    folder: Path, images: dict[str, OddImage], readings: dict[str, Reading], counts: Counts
) -> None:
    wrong = []
    for name, image in images.items():
        error, path = readings[name].error, f"{folder / name}: "
        if error is None:
            if image.refusal is not None:
                wrong.append(f"{name!r} was read")
        elif image.must_be_read:
            wrong.append(f"{name!r} was refused: {error}")
        elif not error.startswith(path) or "\n" in error.removeprefix(path):
            wrong.append(f"{name!r}: not one line with its path: {error!r}")
        elif (image.refusal or "") not in error:
            wrong.append(f"{name!r}: expected {image.refusal!r} in {error!r}")
    assert not wrong, "\n".join(wrong)
    refused = sum(reading.error is not None for reading in readings.values())
    counts("odd images: files", len(images))
    counts("odd images: refused in one line", refused)
    counts("odd images: read", len(images) - refused)


def test_no_file_takes_long_or_much_memory(readings: dict[str, Reading]) -> None:
    wrong = [
        f"{name!r}: {reading.seconds:.1f} s, {reading.grown / 1e6:.0f} MB"
        for name, reading in readings.items()
        if reading.seconds > MOST_SECONDS or reading.grown > MOST_BYTES
    ]
    assert not wrong, "\n".join(wrong)


def _equal(found: Array, expected: Array) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found, expected)


def _differences(image: OddImage, photo: Photo) -> Iterator[str]:
    """Yields what of a valid file was not read as it is."""
    size = image.size if image.pixels is None else image.pixels.shape[:2]
    if photo.size != size:
        yield f"size {photo.size}, expected {size}"
    elif image.pixels is not None:
        if (photo.pixels.shape, photo.pixels.dtype) != (image.pixels.shape, image.pixels.dtype):
            yield f"{photo.pixels.shape} {photo.pixels.dtype}"
        elif (largest := np.abs(photo.pixels.astype(int) - image.pixels).max()) > image.tolerance:
            yield f"pixels differ by {largest}"
        if (photo.alpha is None) != (image.alpha is None):
            yield f"transparency {photo.alpha is not None}"
        elif photo.alpha is not None and image.alpha is not None and not _equal(photo.alpha, image.alpha):
            yield "transparency differs"
    if image.icc is not False and photo.icc != image.icc:
        yield "another profile"
    if image.notice and not any(image.notice in notice for notice in photo.notices):
        yield f"notices {photo.notices}, expected {image.notice!r}"


def test_valid_files_are_read_as_they_are(
    folder: Path, images: dict[str, OddImage], counts: Counts
) -> None:
    wrong = []
    for name, image in images.items():
        if image.must_be_read:
            photo = read_photo(folder / name)
            wrong += [f"{name!r}: {difference}" for difference in _differences(image, photo)]
            height, width = read_size(folder / name)
            if {height, width} != set(photo.size):
                wrong.append(f"{name!r}: the header says {width} x {height}")
    assert not wrong, "\n".join(wrong)
    valid = [image for image in images.values() if image.must_be_read]
    counts("odd images: valid, and size, depth, transparency and profile as expected", len(valid))
    counts("odd images: valid, and pixels as expected", sum(image.pixels is not None for image in valid))


def _check_result(record: dict[str, Any], before: Photo, after: Photo) -> Iterator[str]:
    """Yields what of a photograph was not kept in its result."""
    if after.size != before.size or record["result_size"] != list(before.size[::-1]):
        yield f"size {after.size}, expected {before.size}"
    named = Path(record["output"]).suffix.lower()
    kept = named in {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"} and before.bits == 16
    if after.bits != (16 if kept else 8):
        yield f"{after.bits} bits of {before.bits}"
    clear = before.alpha is not None and before.alpha.min() < np.iinfo(before.alpha.dtype).max
    if after.alpha is None and clear and named in (".png", ".tif", ".tiff", ".webp"):
        yield "transparency is lost"
    if after.icc != before.icc and not any("profile" in notice for notice in record["notices"]):
        yield "another profile, without a notice"
    if named == ".png" and before.colour_chunks != after.colour_chunks:
        yield "another gamma or other primaries"


def test_all_are_restored_or_named(
    folder: Path,
    images: dict[str, OddImage],
    readings: dict[str, Reading],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    counts: Counts,
) -> None:
    out = tmp_path / "out"
    assert main(["restore", str(folder), "-o", str(out), "--plan", PLAN, "--json"]) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    records = {Path(record["input"]).name: record for record in json.loads(printed.out)["photographs"]}
    visible = {name for name in images if not name.startswith(".")}
    assert set(records) == visible
    wrong = []
    for name, record in records.items():
        if record["status"] == "failed":
            if readings[name].error is None:
                wrong.append(f"{name!r} can be read, and was not restored: {record['error']}")
        else:
            before, after = read_photo(folder / name), read_photo(record["output"])
            wrong += [f"{name!r}: {what}" for what in _check_result(record, before, after)]
    assert not wrong, "\n".join(wrong)
    restored = [record for record in records.values() if record["status"] != "failed"]
    assert {path.name for path in out.iterdir()} == {Path(record["output"]).name for record in restored}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: image.data for name, image in images.items()
    }
    counts("odd images: restored by the command", len(restored))
    counts("odd images: named as failures by the command", len(records) - len(restored))
