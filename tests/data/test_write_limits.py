"""What a format cannot hold is left out with a notice, and what it can hold is kept at any length."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from opera_env.data.photo import FORMATS, Photo
from opera_env.data.read import read_photo
from opera_env.data.write import write_photo

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
SRGB_PRIMARIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
LONGEST = {"JPEG": 255 * 65519, "PNG": 2**24}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: tuple[bytes, bytes], bits: int = 8) -> bytes:
    stored = PIXELS if bits == 8 else (PIXELS.astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    header = struct.pack(">IIBBBBB", 7, 9, bits, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def written(folder: Path, photo: Photo) -> tuple[Photo, tuple[str, ...]]:
    """Writes and reads a photograph; returns it with the notices of writing."""
    path = folder / f"result{FORMATS[photo.format].suffixes[0]}"
    notices = write_photo(path, photo, overwrite=True).notices
    return read_photo(path), notices


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("length", [100, 70_000, 2_000_000, 255 * 65519, 255 * 65519 + 1, 2**24 + 1])
def test_profiles_of_any_length(tmp_path: Path, kind: str, length: int) -> None:
    profile = bytes(length)
    found, notices = written(tmp_path, Photo(PIXELS, format=kind, icc=profile))
    if length > LONGEST.get(kind, length):
        assert (found.icc, notices) == (None, (f"its colour profile is too long for {kind}",))
    else:
        assert (found.icc == profile, notices) == (True, ())


COLOURS = {
    "gamma 1": ((b"gAMA", struct.pack(">I", 100_000)),),
    "wide primaries": (
        (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    ),
    "PQ": ((b"cICP", b"\x09\x10\x00\x01"),),
    "sRGB": ((b"sRGB", b"\0"),),
    "like sRGB": ((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", SRGB_PRIMARIES)),
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", COLOURS)
def test_png_keeps_the_meaning_of_its_levels(tmp_path: Path, name: str, bits: int) -> None:
    (tmp_path / "a.png").write_bytes(png(*COLOURS[name], bits=bits))
    photo = read_photo(tmp_path / "a.png")
    assert photo.colour_chunks == COLOURS[name]
    found, notices = written(tmp_path, photo.with_image(photo.tensor()))
    assert (found.colour_chunks, notices) == (COLOURS[name], ())
    assert np.array_equal(found.pixels, photo.pixels)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("name", COLOURS)
def test_other_formats_mention_what_they_cannot_say(tmp_path: Path, name: str, kind: str) -> None:
    _, notices = written(tmp_path, Photo(PIXELS, format=kind, colour_chunks=COLOURS[name]))
    lost = f"{kind} holds no gamma or primaries: its colours may look different"
    assert notices == (() if "sRGB" in name else (lost,))


def test_a_profile_counts_more_than_a_gamma(tmp_path: Path) -> None:
    _, notices = written(
        tmp_path, Photo(PIXELS, format="JPEG", icc=b"profile", colour_chunks=COLOURS["gamma 1"])
    )
    assert notices == ()


def test_chunks_of_a_wrong_length_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(
        png((b"gAMA", bytes(5)), (b"sRGB", b"\0\0"), (b"gAMA", b"\0\0\xff\xff"))
    )
    assert read_photo(tmp_path / "a.png").colour_chunks == ((b"gAMA", b"\0\0\xff\xff"),)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "BMP"])
def test_transparency_of_sixteen_bits(tmp_path: Path, kind: str) -> None:
    alpha = np.linspace(0, 65535, 63).reshape(9, 7).astype(np.uint16)
    photo = Photo(PIXELS.astype(np.uint16) * 257, alpha, format=kind, lossless=True)
    found, notices = written(tmp_path, photo)
    assert f"{kind} holds 8 of its 16 bits" in notices
    if kind == "WEBP":
        assert found.alpha is not None
        assert np.array_equal(found.alpha, np.rint(alpha / 257).astype(np.uint8))
    else:
        assert found.alpha is None
        assert f"{kind} holds no transparency" in notices
