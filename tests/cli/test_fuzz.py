"""A thousand damaged image files: each is restored or named, nothing crashes, hangs or is half written."""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.random import Generator
from PIL import Image

from opera_env.cli import main
from opera_env.data.read import read_photo

WIDTH, HEIGHT = 41, 29
"""Of the seeds: numbers whose bytes are found again in a file's head."""

EXTREMES = (0, 1, 255, 4000, 30000, 65535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

PLAN = "brighten.gamma_correction"
TIME_LIMIT = 300.0
MOST_MEMORY = 3e9

Seeds = dict[str, bytes]
"""Valid files by name."""

Mutation = Callable[[bytes, Generator, Seeds], bytes]


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _tiff(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", metadata=None, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def seeds(make_photograph: Callable[[int, int, int], Image.Image]) -> Seeds:
    picture = make_photograph(HEIGHT, WIDTH, 3)
    pixels = np.asarray(picture)
    deep = pixels.astype(np.uint16) * 257
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    frames = {"save_all": True, "append_images": [picture.rotate(180)], "duration": 50}
    exif = Image.Exif()
    exif[271], exif[274] = "Camera", 6
    return {
        "8bit.png": _saved(picture, "PNG"),
        "16bit.png": cv2.imencode(".png", np.ascontiguousarray(deep[..., ::-1]))[1].tobytes(),
        "grey16.png": cv2.imencode(".png", np.ascontiguousarray(deep[..., 0]))[1].tobytes(),
        "palette.png": _saved(picture.quantize(16), "PNG", transparency=3),
        "alpha.png": _saved(clear, "PNG"),
        "animated.png": _saved(picture, "PNG", **frames),
        "exif.jpg": _saved(picture, "JPEG", exif=exif, quality=90),
        "grey.jpg": _saved(picture.convert("L"), "JPEG"),
        "cmyk.jpg": _saved(picture.convert("CMYK"), "JPEG"),
        "progressive.jpg": _saved(picture, "JPEG", progressive=True),
        "24bit.bmp": _saved(picture, "BMP"),
        "palette.bmp": _saved(picture.quantize(200), "BMP"),
        "raw.tif": _saved(picture, "TIFF"),
        "lzw.tif": _saved(picture, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _saved(clear, "TIFF", compression="tiff_adobe_deflate"),
        "16bit.tif": _tiff(deep),
        "16bit_deflate.tif": _tiff(deep, compression="zlib", predictor=True),
        "planar.tif": _tiff(np.moveaxis(deep, -1, 0), planarconfig="separate"),
        "tiled.tif": _tiff(deep, tile=(16, 16), compression="zlib"),
        "lossy.webp": _saved(picture, "WEBP", quality=80),
        "lossless.webp": _saved(clear, "WEBP", lossless=True),
        "animated.webp": _saved(picture, "WEBP", **frames),
    }


def _place(data: bytes, rng: Generator) -> int:
    """A position; every other time in the head, where sizes and types are."""
    return int(rng.integers(0, max(1, len(data) if rng.random() < 0.5 else min(len(data), 200))))


def _run(data: bytes, rng: Generator) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + int(rng.integers(1, 120)))


def _flip(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 12))):
        changed[_place(data, rng)] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _truncate(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def _insert(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    place = _place(data, rng)
    return data[:place] + rng.bytes(int(rng.integers(1, 120))) + data[place:]


def _delete(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    start, end = _run(data, rng)
    return data[:start] + data[end:]


def _duplicate(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    start, end = _run(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 5)) + data[end:]


def _splice(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    other_file = seeds[str(rng.choice(sorted(seeds)))]
    return data[: _place(data, rng)] + other_file[_place(other_file, rng) :]


def _extreme(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    """Sets any two or four bytes of the head to an extreme number."""
    code = str(rng.choice(["<H", ">H", "<I", ">I"]))
    number = int(rng.choice(EXTREMES)) & (0xFFFF if code[1] == "H" else 0xFFFFFFFF)
    place = int(rng.integers(0, 160))
    return data[:place] + struct.pack(code, number) + data[place + struct.calcsize(code) :]


def _resize(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    """Writes a false width or height, and corrects the checksum."""
    fields = [
        (place, code)
        for code in ("<I", ">I", "<H", ">H")
        for size in (WIDTH, HEIGHT)
        if (place := data.find(struct.pack(code, size))) >= 0
    ]
    if not fields:
        return _extreme(data, rng, seeds)
    for index in {int(rng.integers(0, len(fields))) for _ in range(2)}:
        place, code = fields[index]
        number = int(rng.choice(EXTREMES)) & (0xFFFF if code[1] == "H" else 0xFFFFFFFF)
        data = data[:place] + struct.pack(code, number) + data[place + struct.calcsize(code) :]
    if data.startswith(b"\x89PNG"):
        data = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
    return data


def _tail(data: bytes, rng: Generator, seeds: Seeds) -> bytes:
    return data[: int(rng.integers(8, len(data)))] + rng.bytes(int(rng.integers(1, 2000)))


MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _truncate,
    _insert,
    _delete,
    _duplicate,
    _splice,
    _extreme,
    _resize,
    _tail,
)


def _write_mutants(folder: Path, seeds: Seeds, count: int, seed: int) -> dict[str, bytes]:
    """Writes mutants, each seed and each mutation in turn; returns them by name."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    mutants: dict[str, bytes] = {}
    names = sorted(seeds)
    for index in range(count):
        name, mutate = names[index % len(names)], MUTATIONS[index % len(MUTATIONS)]
        mutants[f"{index:04d}_{mutate.__name__[1:]}_{name}"] = mutate(seeds[name], rng, seeds)
    for name, data in mutants.items():
        (folder / name).write_bytes(data)
    return mutants


def _check(folder: Path, out: Path, mutants: dict[str, bytes], records: list[dict[str, Any]]) -> int:
    """Holds the records against what is there; returns how many were restored."""
    assert sorted(record["input"] for record in records) == sorted(str(folder / name) for name in mutants)
    restored = [record for record in records if record["status"] == "restored"]
    failed = [record for record in records if record["status"] == "failed"]
    assert len(restored) + len(failed) == len(mutants)
    for record in failed:
        assert record["input"] in record["error"]
        assert len(record["error"].splitlines()) == 1
    for record in restored:
        height, width = read_photo(record["output"]).size
        assert record["size"] == record["result_size"] == [width, height], record
    written = {path.name for path in out.iterdir()} if out.exists() else set()
    assert written == {Path(record["output"]).name for record in restored}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == mutants
    return len(restored)


def test_the_seeds_are_whole(seeds: Seeds, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in seeds.items():
        (tmp_path / name).write_bytes(data)
    assert main(["restore", str(tmp_path), "-o", str(tmp_path / "out"), "--plan", PLAN]) == 0
    assert f"{len(seeds)} restored" in capsys.readouterr().err


def test_some_mutants(seeds: Seeds, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    mutants = _write_mutants(folder, seeds, 66, seed=1)
    assert main(["restore", str(folder), "-o", str(out), "--plan", PLAN, "--json"]) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    restored = _check(folder, out, mutants, json.loads(printed.out)["photographs"])
    assert 0 < restored < len(mutants)


@pytest.mark.parametrize("claimed", [13000, 4000])
def test_a_small_file_that_claims_to_be_large_does_not_occupy_an_agent(
    seeds: Seeds, claimed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it claims more than its bytes can hold, or as much as any file may."""
    data = seeds["exif.jpg"]
    place = data.index(b"\xff\xc0") + 5
    path = tmp_path / "claim.jpg"
    path.write_bytes(data[:place] + struct.pack(">HH", claimed, claimed) + data[place + 4 :])
    start = time.monotonic()
    assert main(["restore", str(path), "-o", str(tmp_path / "out"), "--plan", PLAN]) == 1
    assert time.monotonic() - start < 20
    printed = capsys.readouterr().err
    reason = "claims 13000 x 13000 pixels" if claimed == 13000 else "cut short, only 0 % of the image"
    assert f"{path}: " in printed and reason in printed
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def _watch(
    command: list[str], environment: dict[str, str], out: IO[str]
) -> tuple[int, list[tuple[float, str]]]:
    """Runs a command; returns its exit code, and its lines with the seconds since the one before."""
    process = subprocess.Popen(
        command, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace", env=environment
    )
    timer = threading.Timer(TIME_LIMIT, process.kill)
    timer.start()
    lines, last = [], time.monotonic()
    assert process.stderr is not None
    for line in process.stderr:
        lines.append((time.monotonic() - last, line))
        last = time.monotonic()
    code = process.wait()
    timer.cancel()
    return code, lines


@pytest.mark.slow
def test_a_thousand_mutants(seeds: Seeds, tmp_path: Path, child_environment: dict[str, str]) -> None:
    folder, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.json"
    mutants = _write_mutants(folder, seeds, 1000, seed=0)
    args = ["restore", str(folder), "-o", str(out), "--plan", PLAN, "--json"]
    program = "import sys; from opera_env.cli import main; sys.exit(main())"
    start = time.monotonic()
    with report.open("w") as printed:
        code, lines = _watch([sys.executable, "-c", program, *args], child_environment, printed)
    seconds = time.monotonic() - start
    assert code in (0, 1)
    assert not any("Traceback" in line for _, line in lines)
    restored = _check(folder, out, mutants, json.loads(report.read_text())["photographs"])
    assert 0 < restored < len(mutants)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert memory < MOST_MEMORY
    slowest = max(lines[1:])  # before the first line, the program starts
    strange = [line for _, line in lines if str(folder) not in line and "note:" not in line]
    print(
        f"\n{restored} restored, {len(mutants) - restored} failed, {seconds:.1f} s, "
        f"{memory / 1e9:.2f} GB at most; slowest {slowest[0]:.2f} s: {slowest[1].strip()}\n"
        f"{len(strange)} other lines: {strange[:20]}"
    )
