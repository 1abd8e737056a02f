"""Odd PNG files, written by hand: no library writes all of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.faults.odd_images.image import (
    HEIGHT,
    SRGB,
    WIDTH,
    Array,
    OddImage,
    chunk,
    exif,
    levels,
    profile,
    stored_with,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = chunk(b"IEND", b"")
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
PALETTE = np.random.default_rng(7).integers(0, 256, (256, 3)).astype(np.uint8)


def _packed(stored: Array, depth: int) -> list[bytes]:
    """Returns the bytes of each row."""
    if depth >= 8:
        return [row.astype(f">u{depth // 8}").tobytes() for row in stored]
    bits = np.unpackbits(stored.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    return [np.packbits(row.ravel()).tobytes() for row in bits]


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min(
        (abs(guess - left), 0, left), (abs(guess - above), 1, above), (abs(guess - corner), 2, corner)
    )[2]


def _filtered(rows: list[bytes], step: int, kind: int) -> bytes:
    """Applies one filter, or all in turn where ``kind`` is 5."""
    found, before = bytearray(), bytes(len(rows[0]) if rows else 0)
    for number, row in enumerate(rows):
        method = number % 5 if kind == 5 else kind
        found.append(method)
        for place, value in enumerate(row):
            left = row[place - step] if place >= step else 0
            corner = before[place - step] if place >= step else 0
            above = before[place]
            guess = (0, left, above, (left + above) // 2, _paeth(left, above, corner))[method]
            found.append((value - guess) & 255)
        before = row
    return bytes(found)


def image_data(stored: Array, depth: int, interlace: bool = False, method: int = 0) -> bytes:
    """Returns the rows as they are compressed, with the number of their filter."""
    step = max(1, stored.shape[2] * depth // 8)
    passes = [stored[top::down, left::right] for top, left, down, right in ADAM7] if interlace else [stored]
    return b"".join(_filtered(_packed(part, depth), step, method) for part in passes if part.size)


def png(
    stored: Array,
    depth: int = 8,
    colour: int = 2,
    interlace: bool = False,
    method: int = 0,
    before: bytes = b"",
    after: bytes = b"",
    data: bytes | None = None,
    header: dict[str, int] | None = None,
) -> bytes:
    """Returns a PNG file with chunks before and after its pixels; the header may lie."""
    fields = {"width": stored.shape[1], "height": stored.shape[0], "depth": depth, "colour": colour}
    fields |= {"compression": 0, "filter": 0, "interlace": int(interlace)} | (header or {})
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *fields.values()))
    if colour == 3 and b"PLTE" not in before:
        before = chunk(b"PLTE", PALETTE[: 2**depth].tobytes()) + before
    data = image_data(stored, depth, interlace, method) if data is None else data
    return SIGNATURE + head + before + chunk(b"IDAT", zlib.compress(data)) + after + END


def _expected(stored: Array, depth: int, colour: int) -> tuple[Array, Array | None]:
    if colour == 3:
        return PALETTE[stored[..., 0]], None
    full = stored if depth >= 8 else (stored.astype(int) * 255 // (2**depth - 1)).astype(np.uint8)
    return (full[..., :-1], full[..., -1]) if colour in (4, 6) else (full, None)


def _kinds() -> Iterator[OddImage]:
    """All depths and colour types, with and without interlacing, with all filters."""
    for colour, depths in DEPTHS.items():
        for depth in depths:
            stored = levels(HEIGHT, WIDTH, CHANNELS[colour], depth)
            pixels, alpha = _expected(stored, depth, colour)
            for interlace in (False, True):
                for method in (0, 4, 5):
                    name = f"colour{colour}_{depth}bit_{'adam7_' * interlace}filter{method}.png"
                    data = png(stored, depth, colour, interlace, method)
                    yield OddImage(f"png_{name}", data, pixels, alpha, icc=None)


def _transparent_colours() -> Iterator[OddImage]:
    for colour in (0, 2):
        for depth in DEPTHS[colour]:
            stored = levels(HEIGHT, WIDTH, CHANNELS[colour], depth)
            key = np.maximum(stored[3, 5], 1)
            stored[3, 5] = key
            mark = chunk(b"tRNS", struct.pack(f">{len(key)}H", *(int(value) for value in key)))
            pixels, _ = _expected(stored, depth, colour)
            top = 65535 if depth == 16 else 255
            alpha = np.where((stored == key).all(axis=2), 0, top).astype(pixels.dtype)
            data = png(stored, depth, colour, before=mark)
            yield OddImage(f"png_key_colour{colour}_{depth}bit.png", data, pixels, alpha)
    for depth in DEPTHS[3]:
        stored = levels(HEIGHT, WIDTH, 1, depth)
        opacity = np.random.default_rng(depth).integers(0, 256, 2**depth).astype(np.uint8)
        before = chunk(b"PLTE", PALETTE[: 2**depth].tobytes()) + chunk(b"tRNS", opacity.tobytes())
        data = png(stored, depth, 3, before=before)
        yield OddImage(
            f"png_key_palette_{depth}bit.png", data, PALETTE[stored[..., 0]], opacity[stored[..., 0]]
        )


def _icc(data: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(data))


CHUNKS: dict[str, bytes] = {
    "gamma_zero": chunk(b"gAMA", struct.pack(">I", 0)),
    "gamma_huge": chunk(b"gAMA", struct.pack(">I", 2**31 - 1)),
    "gamma_linear": chunk(b"gAMA", struct.pack(">I", 100000)),
    "gamma_short": chunk(b"gAMA", b"\0"),
    "chromaticity_equal": chunk(b"cHRM", struct.pack(">8I", *([31270] * 8))),
    "chromaticity_zero": chunk(b"cHRM", bytes(32)),
    "chromaticity_short": chunk(b"cHRM", bytes(5)),
    "srgb_intent_9": chunk(b"sRGB", b"\x09"),
    "srgb_empty": chunk(b"sRGB", b""),
    "density_zero": chunk(b"pHYs", struct.pack(">IIB", 0, 0, 1)),
    "density_huge": chunk(b"pHYs", struct.pack(">IIB", 2**32 - 1, 2**32 - 1, 1)),
    "density_ratio": chunk(b"pHYs", struct.pack(">IIB", 1, 1000, 0)),
    "density_short": chunk(b"pHYs", b"\0\0"),
    "time_month_13": chunk(b"tIME", struct.pack(">HBBBBB", 2020, 13, 40, 25, 61, 61)),
    "background": chunk(b"bKGD", bytes(6)),
    "background_short": chunk(b"bKGD", bytes(1)),
    "significant_bits": chunk(b"sBIT", b"\x05\x06\x05"),
    "histogram": chunk(b"hIST", bytes(6)),
    "suggested_palette": chunk(b"sPLT", b"name\0\x08" + bytes(12)),
    "transparency_long": chunk(b"tRNS", bytes(40)),
    "colour_points": chunk(b"cICP", b"\x09\x10\x00\x01"),
    "text": chunk(b"tEXt", b"Comment\0hello\nworld\x1b[31m"),
    "text_without_end": chunk(b"tEXt", b"Comment"),
    "text_compressed": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"hello")),
    "text_broken": chunk(b"zTXt", b"Comment\0\0nonsense"),
    "text_bomb": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(30_000_000), 9)),
    "text_method_7": chunk(b"zTXt", b"Comment\0\x07abc"),
    "unknown": chunk(b"prVt", bytes(100)),
    "unknown_empty": chunk(b"prVt", b""),
    "exif_nonsense": chunk(b"eXIf", b"nonsense"),
    "exif_empty": chunk(b"eXIf", b""),
    "exif_loop": chunk(b"eXIf", exif(1)[:-4] + struct.pack("<I", 8)),
    "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
    "xmp_broken": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0nonsense"),
}
"""Chunks before the pixels that change nothing of them."""


def _chunks() -> Iterator[OddImage]:
    stored = levels(HEIGHT, WIDTH, 3)
    lenient = {"transparency_long", "text_bomb", "text_method_7"} | {
        name for name in CHUNKS if name.endswith(("_short", "_empty"))
    }
    for name, data in CHUNKS.items():
        file = png(stored, before=data)
        known: dict[str, Any] = {} if name in lenient else {"pixels": stored}
        yield OddImage(f"png_chunk_{name}.png", file, **known)
        deep = levels(HEIGHT, WIDTH, 3, 16)
        known = {} if name in lenient else {"pixels": deep}
        yield OddImage(f"png_16bit_chunk_{name}.png", png(deep, 16, before=data), **known)
    profiles = {
        "srgb": SRGB,
        "nonsense": b"nonsense",
        "printer": profile(b"prtr"),
        "of_grey": profile(space=b"GRAY"),
        "of_cmyk": profile(space=b"CMYK"),
        "two_megabytes": profile(length=2_000_000),
    }
    for name, icc in profiles.items():
        yield OddImage(f"png_profile_{name}.png", png(stored, before=_icc(icc)), stored, icc=icc)
    broken = chunk(b"iCCP", b"name\0\0" + b"nonsense")
    damaged = "profile is damaged"
    yield OddImage("png_profile_not_compressed.png", png(stored, before=broken), stored, notice=damaged)
    yield OddImage("png_two_profiles.png", png(stored, before=_icc(SRGB) * 2), stored)


def _orientations() -> Iterator[OddImage]:
    for orientation in range(1, 9):
        for depth in (8, 16):
            upright = levels(HEIGHT, WIDTH, 3, depth)
            order = "<" if orientation % 2 else ">"
            stored = stored_with(upright, orientation)
            data = png(stored, depth, before=chunk(b"eXIf", exif(orientation, order)))
            yield OddImage(f"png_{depth}bit_orientation{orientation}.png", data, upright)


def _sizes() -> Iterator[OddImage]:
    for height, width in ((1, 1), (1, 2), (2, 1), (1, 9), (9, 1), (3, 5), (1, 20000), (20000, 1)):
        for interlace in (False, True):
            stored = levels(height, width, 3)
            data = png(stored, interlace=interlace)
            yield OddImage(f"png_{width}x{height}{'_adam7' * interlace}.png", data, stored)


def _structures() -> Iterator[OddImage]:
    stored = levels(HEIGHT, WIDTH, 3)
    good = png(stored)
    rows = zlib.compress(image_data(stored, 8))
    head = good[:33]

    def file(*parts: bytes) -> bytes:
        return head + b"".join(parts)

    single = [chunk(b"IDAT", rows[place : place + 1]) for place in range(len(rows))]
    yield OddImage("png_data_in_single_bytes.png", file(*single, END), stored)
    parts = [chunk(b"IDAT", b""), chunk(b"IDAT", rows), chunk(b"IDAT", b""), END]
    yield OddImage("png_empty_data_chunks.png", file(*parts), stored)
    yield OddImage("png_junk_after_end.png", good + bytes(range(256)) * 20, stored)
    yield OddImage("png_second_file_after_end.png", good + good, stored)
    yield OddImage("png_without_end.png", good[:-12], stored)
    yield OddImage(
        "png_extra_rows.png", png(stored, data=image_data(np.tile(stored, (2, 1, 1)), 8)), stored
    )
    yield OddImage("png_checksum_of_text.png", file(chunk(b"tEXt", b"a\0b", 1), chunk(b"IDAT", rows), END))
    yield OddImage("png_checksum_of_header.png", good[:29] + bytes(4) + good[33:], refusal="")
    yield OddImage(
        "png_checksum_of_pixels.png", file(chunk(b"IDAT", rows, 1), END), refusal="checksum of pixels"
    )
    yield OddImage("png_no_pixels.png", file(END), refusal="")
    yield OddImage("png_only_signature.png", SIGNATURE, refusal="")
    yield OddImage("png_only_header.png", head, refusal="")
    yield OddImage("png_data_before_header.png", SIGNATURE + chunk(b"IDAT", rows) + good[8:], refusal="")
    yield OddImage("png_unknown_critical_chunk.png", file(chunk(b"PRVT", b"x"), chunk(b"IDAT", rows), END))
    yield OddImage("png_two_headers.png", head + head[8:] + good[33:])
    yield OddImage("png_not_deflate.png", file(chunk(b"IDAT", b"nonsense" * 9), END), refusal="broken data")
    wrong_sum = rows[:-4] + bytes(4)
    yield OddImage("png_checksum_of_deflate.png", file(chunk(b"IDAT", wrong_sum), END))
    for name, fields in {
        "width_0": {"width": 0},
        "height_0": {"height": 0},
        "width_huge": {"width": 2**31 - 1},
        "both_huge": {"width": 13000, "height": 13000},
        "sign_bit": {"width": 2**31 + 5},
        "depth_3": {"depth": 3},
        "depth_0": {"depth": 0},
        "colour_1": {"colour": 1},
        "colour_16bit_palette": {"colour": 3, "depth": 16},
        "compression_1": {"compression": 1},
        "interlace_2": {"interlace": 2},
    }.items():
        refusal = None if name in ("compression_1", "interlace_2") else ""
        yield OddImage(f"png_header_{name}.png", png(stored, header=fields), refusal=refusal)
    for count in (0, 1, 10, HEIGHT - 1):
        for depth in (8, 16):
            part = image_data(levels(HEIGHT, WIDTH, 3, depth)[:count], depth)
            data = png(levels(HEIGHT, WIDTH, 3, depth), depth, data=part)
            yield OddImage(f"png_{depth}bit_{count}_rows.png", data, refusal="cut short")
            grey = levels(HEIGHT, WIDTH, 1, depth)
            part = image_data(grey, depth, interlace=True)[: count * 30]
            data = png(grey, depth, 0, interlace=True, data=part)
            yield OddImage(f"png_{depth}bit_adam7_{count * 30}_bytes.png", data, refusal="cut short")
    indices = levels(HEIGHT, WIDTH, 1)
    short = chunk(b"PLTE", PALETTE[:3].tobytes())
    yield OddImage("png_index_beyond_palette.png", png(indices, colour=3, before=short))
    without = png(indices, colour=3).replace(b"PLTE", b"plTe")
    yield OddImage("png_without_palette.png", without)


def _animations() -> Iterator[OddImage]:
    stored, other = levels(HEIGHT, WIDTH, 3), levels(HEIGHT, WIDTH, 3, seed=1)
    rows = zlib.compress(image_data(stored, 8))
    later = zlib.compress(image_data(other, 8))

    def control(sequence: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0))

    head = png(stored)[:33]
    second = control(1) + chunk(b"fdAT", struct.pack(">I", 2) + later)
    count = chunk(b"acTL", struct.pack(">II", 2, 0))
    data = head + count + control(0) + chunk(b"IDAT", rows) + second + END
    yield OddImage("png_animated.png", data, stored, notice="first of its 2 images")
    data = head + count + chunk(b"IDAT", rows) + control(0) + chunk(b"fdAT", bytes(4) + later) + END
    yield OddImage("png_animated_with_another_default.png", data)
    for name, frames in {"none": 0, "huge": 2**31 - 1}.items():
        count = chunk(b"acTL", struct.pack(">II", frames, 0))
        data = head + count + control(0) + chunk(b"IDAT", rows) + END
        yield OddImage(f"png_animated_{name}.png", data)
    short = chunk(b"acTL", b"\0")
    yield OddImage("png_animated_short.png", head + short + chunk(b"IDAT", rows) + END)


def odd_png_files() -> Iterator[OddImage]:
    """Yields the odd PNG files."""
    makers: tuple[Any, ...] = (
        _kinds,
        _transparent_colours,
        _chunks,
        _orientations,
        _sizes,
        _structures,
        _animations,
    )
    for make in makers:
        yield from make()
