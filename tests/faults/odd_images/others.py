"""Odd BMP and WebP files, files of other formats, odd names and names that say another format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import cv2
import imagecodecs
import numpy as np
from PIL import Image

from tests.faults.odd_images.image import (
    HEIGHT,
    SRGB,
    WIDTH,
    Array,
    OddImage,
    exif,
    levels,
    profile,
    saved,
    stored_with,
)

PALETTE = np.random.default_rng(3).integers(0, 256, (256, 3)).astype(np.uint8)


def bmp(
    rows: bytes, bits: int, header: dict[str, int] | None = None, palette: int = 0, masks: bytes = b""
) -> bytes:
    """Returns a BMP file with the header of Windows 3; the header may lie."""
    fields = {"width": WIDTH, "height": HEIGHT, "planes": 1, "bits": bits, "compression": 0}
    fields |= {"bytes": len(rows), "across": 2835, "down": 2835, "colours": palette, "important": 0}
    fields |= header or {}
    colours = b"".join(bytes([*entry[::-1], 0]) for entry in PALETTE[:palette].tolist())
    info = struct.pack("<IiiHHIIiiII", 40, *fields.values()) + masks + colours
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + rows


def _rows(stored: Array, bits: int) -> bytes:
    """Returns rows from the bottom to the top, each of a multiple of four bytes."""
    found = []
    for row in stored[::-1]:
        if bits < 8:
            digits = np.unpackbits(row.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
            data = np.packbits(digits.ravel()).tobytes()
        else:
            data = row[..., ::-1].astype("<u2" if row.dtype == np.uint16 else np.uint8).tobytes()
        found.append(data + bytes(-len(data) % 4))
    return b"".join(found)


def _bmp_files() -> Iterator[OddImage]:
    for bits in (1, 4, 8):
        stored = levels(HEIGHT, WIDTH, 1, bits)
        data = bmp(_rows(stored, bits), bits, palette=2**bits)
        yield OddImage(f"bmp_{bits}bit.bmp", data, PALETTE[stored[..., 0]])
        short = bmp(_rows(stored, bits), bits, palette=2)
        yield OddImage(f"bmp_{bits}bit_short_palette.bmp", short)
    true = levels(HEIGHT, WIDTH, 3)
    rows = _rows(true, 24)
    yield OddImage("bmp_24bit.bmp", bmp(rows, 24), true)
    yield OddImage("bmp_top_down.bmp", bmp(_rows(true[::-1], 24), 24, {"height": -HEIGHT}), true)
    unused = np.concatenate([levels(HEIGHT, WIDTH, 1), true], axis=2)
    yield OddImage("bmp_32bit.bmp", bmp(_rows(unused, 32), 32), true)
    packed = levels(HEIGHT, WIDTH, 1, 15)
    yield OddImage("bmp_16bit.bmp", bmp(_rows(packed, 16), 16), size=(HEIGHT, WIDTH))
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    data = bmp(_rows(levels(HEIGHT, WIDTH, 1, 16), 16), 16, {"compression": 3}, masks=masks)
    yield OddImage("bmp_565.bmp", data, size=(HEIGHT, WIDTH))
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    data = bmp(_rows(unused, 32), 32, {"compression": 3}, masks=masks)
    yield OddImage("bmp_32bit_masks.bmp", data, true)
    odd = struct.pack("<III", 0x12345, 0x777, 0x1)
    yield OddImage("bmp_odd_masks.bmp", bmp(_rows(unused, 32), 32, {"compression": 3}, masks=odd))
    runs = (bytes([WIDTH, 5, 0, 0]) * HEIGHT) + b"\0\1"
    flat = np.broadcast_to(PALETTE[5], (HEIGHT, WIDTH, 3))
    yield OddImage("bmp_runs.bmp", bmp(runs, 8, {"compression": 1}, palette=256), flat)
    runs4 = (bytes([WIDTH, 0x55, 0, 0]) * HEIGHT) + b"\0\1"
    yield OddImage("bmp_runs4.bmp", bmp(runs4, 4, {"compression": 2}, palette=16), flat)
    yield OddImage("bmp_runs_end_early.bmp", bmp(runs[:40] + b"\0\1", 8, {"compression": 1}, palette=256))
    jump = b"\0\2\xff\xff" * 5000
    yield OddImage("bmp_runs_jump.bmp", bmp(jump, 8, {"compression": 1}, palette=256))
    old = b"BM" + struct.pack("<IHHIIHHHH", 26 + len(rows), 0, 0, 26, 12, WIDTH, HEIGHT, 1, 24) + rows
    yield OddImage("bmp_os2.bmp", old, true)
    yield OddImage("bmp_junk_at_end.bmp", bmp(rows, 24) + bytes(999), true)
    yield OddImage("bmp_bytes_0.bmp", bmp(rows, 24, {"bytes": 0}), true)
    for name, header in {
        "width_0": {"width": 0},
        "height_0": {"height": 0},
        "width_negative": {"width": -WIDTH},
        "claims": {"width": 13000, "height": 13000},
        "lowest_height": {"height": -(2**31)},
        "bits_7": {"bits": 7},
        "jpeg_within": {"compression": 4},
        "png_within": {"compression": 5},
        "compression_99": {"compression": 99},
        "colours_huge": {"colours": 2**31, "bits": 8},
    }.items():
        yield OddImage(f"bmp_{name}.bmp", bmp(rows, 24, header), refusal="")
    for count in (0, 1, HEIGHT // 2, HEIGHT - 1):
        part = bmp(rows[: count * (len(rows) // HEIGHT)], 24)
        yield OddImage(f"bmp_{count}_rows.bmp", part, refusal="")
    picture = Image.fromarray(true)
    for mode in ("L", "RGB", "RGBA", "1"):
        kind = saved(picture.convert(mode), "BMP")
        yield OddImage(f"bmp_pillow_{mode}.bmp", kind, size=(HEIGHT, WIDTH))


def _opened(data: bytes) -> Array:
    return np.asarray(imagecodecs.webp_decode(data, hasalpha=False))


def _riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_files() -> Iterator[OddImage]:
    true, four = levels(HEIGHT, WIDTH, 3), levels(HEIGHT, WIDTH, 4)
    picture, clear = Image.fromarray(true), Image.fromarray(four)
    for quality in (0, 50, 100):
        for method in (0, 6):
            data = saved(picture, "WEBP", quality=quality, method=method)
            yield OddImage(f"webp_q{quality}_m{method}.webp", data, _opened(data), tolerance=1)
            data = saved(picture, "WEBP", lossless=True, quality=quality, method=method)
            yield OddImage(f"webp_lossless_q{quality}_m{method}.webp", data, true)
            data = saved(clear, "WEBP", lossless=True, exact=True, quality=quality, method=method)
            yield OddImage(f"webp_alpha_q{quality}_m{method}.webp", data, four[..., :3], four[..., 3])
    for height, width in ((1, 1), (1, 9), (9, 1), (1, 16383), (16383, 1)):
        wide = levels(height, width, 3)
        data = saved(Image.fromarray(wide), "WEBP", lossless=True)
        yield OddImage(f"webp_{width}x{height}.webp", data, wide)
    for orientation in range(1, 9):
        for order in "<>":
            stored = Image.fromarray(np.ascontiguousarray(stored_with(true, orientation)))
            data = saved(stored, "WEBP", lossless=True, exif=exif(orientation, order))
            name = f"webp_orientation{orientation}_{'little' if order == '<' else 'big'}.webp"
            yield OddImage(name, data, true)
    for name, options in {
        "profile": {"icc_profile": SRGB},
        "profile_nonsense": {"icc_profile": b"nonsense"},
        "profile_of_grey": {"icc_profile": profile(space=b"GRAY")},
        "profile_long": {"icc_profile": profile(length=300_000)},
        "exif_nonsense": {"exif": b"nonsense"},
        "exif_cut": {"exif": exif(1)[:11]},
        "xmp": {"xmp": b"<x/>"},
        "xmp_nonsense": {"xmp": b"\xff\xfe<<"},
    }.items():
        data = saved(picture, "WEBP", lossless=True, **options)
        yield OddImage(f"webp_{name}.webp", data, true, icc=options.get("icc_profile"))
    frames: dict[str, Any] = {
        "save_all": True,
        "append_images": [picture.rotate(180)],
        "duration": 40,
        "lossless": True,
    }
    data = saved(picture, "WEBP", **frames)
    opaque = np.full((HEIGHT, WIDTH), 255, np.uint8)  # the canvas of an animation has alpha
    yield OddImage("webp_animated.webp", data, true, opaque, notice="first of its 2 images")
    lossless, lossy = saved(picture, "WEBP", lossless=True)[20:], saved(picture, "WEBP")
    for name, data in {
        "header_only": _riff(),
        "unknown_chunk": _riff((b"JUNK", b"abc")),
        "no_pixels": _riff((b"VP8X", bytes(10))),
        "canvas_huge": _riff((b"VP8X", bytes(4) + b"\xff\xff\xff" * 2), (b"VP8L", lossless)),
        "cut_closed": _riff((b"VP8L", lossless[: len(lossless) // 2])),
        "lossy_cut_closed": _riff((b"VP8 ", lossy[20 : len(lossy) // 2])),
        "signature_wrong": _riff((b"VP8L", b"\x30" + lossless[1:])),
        "not_riff": b"RIFX" + saved(picture, "WEBP")[4:],
    }.items():
        yield OddImage(f"webp_{name}.webp", data, refusal="")
    yield OddImage("webp_junk_at_end.webp", saved(picture, "WEBP", lossless=True) + bytes(99), true)
    large = lossy[:4] + struct.pack("<I", 2**31) + lossy[8:]
    yield OddImage("webp_riff_too_long.webp", large)


def _other_formats() -> Iterator[OddImage]:
    picture = Image.fromarray(levels(HEIGHT, WIDTH, 3))
    for kind in ("GIF", "PPM", "ICO", "JPEG2000", "AVIF", "EPS", "DDS", "ICNS", "QOI"):
        named = "is not supported"
        yield OddImage(
            f"other_{kind}.{kind.lower()}.png", saved(picture.resize((32, 32)), kind), refusal=named
        )
    for kind in ("TGA", "PCX", "SGI", "MSP", "SPIDER"):
        mode = {"MSP": "1", "SPIDER": "F"}.get(kind, "RGB")
        yield OddImage(f"other_{kind}.png", saved(picture.convert(mode), kind), refusal="")
    small = np.asarray(picture)
    for name, data in {
        "jxl": imagecodecs.jpegxl_encode(small),
        "jxr": imagecodecs.jpegxr_encode(small),
        "jls": imagecodecs.jpegls_encode(small),
        "hdr": cv2.imencode(".hdr", small.astype(np.float32))[1].tobytes(),
        "heic": b"\0\0\0\x18ftypheic" + bytes(200),
        "cr3": b"\0\0\0\x18ftypcrx " + bytes(200),
        "mp4": b"\0\0\0\x18ftypisom" + bytes(200),
        "pdf": b"%PDF-1.7\n" + bytes(200),
        "psd": b"8BPS\0\1" + bytes(200),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        "zip": b"PK\3\4" + bytes(200),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    }.items():
        yield OddImage(f"other_{name}.jpg", data, refusal="is not supported")
    for name, data in {
        "html": b"<!DOCTYPE html><html><title>404</title></html>",
        "text": b"Dear Sir or Madam,\nno image is enclosed.\n" * 9,
        "empty": b"",
        "one_byte": b"\x89",
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "json": b'{"image": null}',
        "python": b"import os\nos.abort()\n",
        "noise": np.random.default_rng(0).bytes(5000),
        "elf": b"\x7fELF" + bytes(100),
    }.items():
        for suffix in ("png", "jpg", "tif", "webp", "bmp"):
            yield OddImage(f"other_{name}.{suffix}", data, refusal="")


def _names() -> Iterator[OddImage]:
    true = levels(HEIGHT, WIDTH, 3)
    good: dict[str, tuple[bytes, str]] = {
        "PNG": (saved(Image.fromarray(true), "PNG"), "png"),
        "BMP": (saved(Image.fromarray(true), "BMP"), "bmp"),
        "TIFF": (saved(Image.fromarray(true), "TIFF"), "tif"),
        "WEBP": (saved(Image.fromarray(true), "WEBP", lossless=True), "webp"),
    }
    suffixes = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "PNG", "JPG", "TIF")
    for kind, (data, own) in good.items():
        for suffix in suffixes:
            notice = "" if suffix.lower().startswith(own) else f"its content is {kind}"
            yield OddImage(f"named_{kind}.{suffix}", data, true, notice=notice)
    for name in (
        "line\nbreak",
        "carriage\rreturn",
        "escape\x1b[31mred",
        "tab\there",
        "bell\x07",
        "quote'\"`",
        "dollar$(id)",
        "star*?[a]",
        "space at end ",
        "Ümläut_und_ß",
        "日本語の写真",
        "עברית",
        "emoji_📷",
        "combining_é",
        "right_to_left_\u202egnp",
        "per%cent%s{0}",
        "semi;colon&and|pipe",
        "comma,comma",
        "-dash",
        "long_" + "n" * 230,
    ):
        yield OddImage(f"{name}.png", good["PNG"][0], true)


def odd_other_files() -> Iterator[OddImage]:
    """Yields odd BMP and WebP files, other formats, and odd names."""
    makers: tuple[Any, ...] = (_bmp_files, _webp_files, _other_formats, _names)
    for make in makers:
        yield from make()
