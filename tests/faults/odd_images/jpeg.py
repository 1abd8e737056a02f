"""Odd JPEG files: Pillow encodes them, their segments are changed by hand, and OpenCV decodes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import cv2
import imagecodecs
import numpy as np
from PIL import Image

from tests.faults.odd_images.image import SRGB, Array, OddImage, exif, levels, profile, saved, stored_with

HEIGHT, WIDTH = 43, 61
END = b"\xff\xd9"
TOLERANCE = 3
"""Decoders differ in how they enlarge chroma."""


def segment(marker: int, data: bytes) -> bytes:
    """Returns a segment with its length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """Inserts segments after the start of an image."""
    return data[:2] + b"".join(segments) + data[2:]


def picture(mode: str = "RGB", height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """Returns an image without much noise, so that lossy compression keeps it."""
    small = levels(7, 9, 3)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def decoded(data: bytes) -> Array:
    """Decodes a file by OpenCV: grey or RGB as stored, (H, W, C)."""
    found = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    )
    assert found is not None
    return np.atleast_3d(found) if found.ndim == 2 else np.ascontiguousarray(found[..., ::-1])


def _known(name: str, data: bytes, **known: Any) -> OddImage:
    return OddImage(f"jpeg_{name}.jpg", data, decoded(data), tolerance=TOLERANCE, **known)


def _codings() -> Iterator[OddImage]:
    restarts: dict[str, dict[str, Any]] = {
        "": {},
        "restart_rows": {"restart_marker_rows": 1},
        "restart": {"restart_marker_blocks": 1},
    }
    for mode in ("L", "RGB"):
        for quality in (1, 75, 100):
            for subsampling in (0, 1, 2):
                for progressive in (False, True):
                    name = f"{mode}_q{quality}_s{subsampling}{'_progressive' * progressive}"
                    options: dict[str, Any] = {
                        "quality": quality,
                        "subsampling": subsampling,
                        "progressive": progressive,
                    }
                    yield _known(name, saved(picture(mode), "JPEG", optimize=quality > 1, **options))
        for name, options in restarts.items():
            for progressive in (False, True):
                data = saved(picture(mode), "JPEG", progressive=progressive, **options)
                yield _known(f"{mode}_{name}{'_progressive' * progressive}_restarts", data)
    for height, width in ((1, 1), (1, 9), (9, 1), (8, 8), (16, 17), (1, 30000), (30000, 1)):
        yield _known(f"{width}x{height}", saved(picture("RGB", height, width), "JPEG", quality=95))


def _inks() -> Iterator[OddImage]:
    size = (HEIGHT, WIDTH)
    for progressive in (False, True):
        data = saved(picture("CMYK"), "JPEG", progressive=progressive)
        kind = "progressive" if progressive else "baseline"
        yield OddImage(f"jpeg_cmyk_{kind}.jpg", data, size=size, notice="CMYK colours became sRGB")
        ycck = data.replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2")
        yield OddImage(f"jpeg_ycck_{kind}.jpg", ycck, size=size, notice="CMYK colours became sRGB")
    for name, icc in {"of_rgb": SRGB, "nonsense": b"nonsense", "cut": SRGB[:200]}.items():
        data = saved(picture("CMYK"), "JPEG", icc_profile=icc)
        yield OddImage(f"jpeg_cmyk_profile_{name}.jpg", data, size=size, notice="cannot be used")


def _orientations() -> Iterator[OddImage]:
    upright = np.asarray(picture())
    for orientation in range(1, 9):
        for order in "<>":
            stored = Image.fromarray(np.ascontiguousarray(stored_with(upright, orientation)))
            plain = saved(stored, "JPEG", quality=95, subsampling=0)
            data = with_segments(plain, segment(0xE1, b"Exif\0\0" + exif(orientation, order)))
            name = f"orientation{orientation}_{'little' if order == '<' else 'big'}"
            yield OddImage(f"jpeg_{name}.jpg", data, upright, tolerance=12)
    plain = saved(picture(), "JPEG", quality=95)
    for name, content in {
        "0": exif(0),
        "9": exif(9),
        "65535": exif(65535),
        "long": exif(1, code=4),
        "text": exif(0x41424344, code=2),
        "rational": exif(200, code=5),
        "float": exif(0x7FC00000, code=11),
        "undefined": exif(1, code=7),
        "unknown_type": exif(1, code=99),
    }.items():
        data = with_segments(plain, segment(0xE1, b"Exif\0\0" + content))
        yield _known(f"orientation_{name}", data)


def _exif() -> Iterator[OddImage]:
    plain = saved(picture(), "JPEG", quality=95)
    pointer = struct.pack("<HHII", 0x8769, 4, 1, 8)
    far = struct.pack("<HHII", 0x010F, 2, 40, 2**31)
    long_text = struct.pack("<HHII", 0x010E, 2, 60000, 50) + bytes(60020)
    thumbnail = saved(picture().resize((16, 12)), "JPEG")
    contents = {
        "empty": b"",
        "nonsense": b"nonsense" * 10,
        "header_only": exif(1)[:8],
        "cut": exif(1)[:15],
        "loop": exif(1)[:-4] + struct.pack("<I", 8),
        "points_to_itself": exif(1, entries=pointer, count=1),
        "points_far": exif(1, entries=far, count=1),
        "long_text": exif(1, entries=long_text, count=1)[:65000],
        "many_entries": exif(1, count=60000),
        "wrong_order": b"XX" + exif(1)[2:],
        "with_thumbnail": exif(1) + thumbnail,
        "first_ifd_far": exif(1)[:4] + struct.pack("<I", 2**32 - 1) + exif(1)[8:],
    }
    for name, content in contents.items():
        yield _known(f"exif_{name}", with_segments(plain, segment(0xE1, b"Exif\0\0" + content)))
    two = with_segments(plain, *[segment(0xE1, b"Exif\0\0" + exif(1))] * 2)
    yield _known("exif_twice", two)
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    for name, content in {
        "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
        "xmp_nonsense": b"\xff\xfe<<<",
        "xmp_empty": b"",
        "xmp_long": b"<x>" + b"a" * 65000,
    }.items():
        yield _known(name, with_segments(plain, segment(0xE1, xmp + content)))


def _profiles() -> Iterator[OddImage]:
    plain = saved(picture(), "JPEG", quality=95)
    for name, icc in {
        "srgb": SRGB,
        "nonsense": b"nonsense",
        "printer": profile(b"prtr"),
        "of_grey": profile(space=b"GRAY"),
        "of_cmyk": profile(space=b"CMYK"),
        "of_three_segments": profile(length=150_000),
    }.items():
        yield _known(f"profile_{name}", saved(picture(), "JPEG", quality=95, icc_profile=icc), icc=icc)
    part = b"ICC_PROFILE\0"
    absent = segment(0xE2, part + b"\1\3" + SRGB)
    yield _known("profile_part_absent", with_segments(plain, absent), notice="profile is damaged")
    yield _known("profile_part_0", with_segments(plain, segment(0xE2, part + b"\0\0" + SRGB)))
    yield OddImage("jpeg_profile_empty.jpg", with_segments(plain, segment(0xE2, part)))


def _structures() -> Iterator[OddImage]:
    plain = saved(picture(), "JPEG", quality=95)
    tables = plain.index(b"\xff\xdb")
    bare = plain[:2] + plain[tables:]
    frame, scan = plain.index(b"\xff\xc0"), plain.index(b"\xff\xda")
    yield _known("without_jfif", bare)
    for unit, across, down in ((0, 1, 1), (1, 0, 0), (1, 65535, 65535), (2, 1, 65535), (7, 72, 72)):
        jfif = b"JFIF\0\1\2" + struct.pack(">BHHBB", unit, across, down, 0, 0)
        yield _known(f"density_{unit}_{across}_{down}", with_segments(bare, segment(0xE0, jfif)))
    for transform in (0, 1, 2, 7):
        adobe = b"Adobe\0d\0\0\0\0" + bytes([transform])
        yield OddImage(
            f"jpeg_adobe{transform}.jpg", with_segments(bare, segment(0xEE, adobe)), size=(HEIGHT, WIDTH)
        )
    yield _known("comment", with_segments(plain, segment(0xFE, b"\x1b[31m\n" * 9000)))
    yield _known("fill_before_markers", plain[:frame] + b"\xff" * 9 + plain[frame:])
    yield _known(
        "unknown_segments", with_segments(plain, *(segment(0xE3 + n, bytes(50)) for n in range(9)))
    )
    yield _known("junk_after_end", plain + bytes(range(256)) * 9)
    yield _known("two_images", plain + saved(picture().rotate(90), "JPEG"))
    yield _known("junk_before_markers", with_segments(plain, b""))
    more = [picture().rotate(90), picture().rotate(180)]
    mpo = saved(picture(), "MPO", save_all=True, append_images=more, quality=95)
    yield OddImage("jpeg_mpo.jpg", mpo, size=(HEIGHT, WIDTH), notice="first of its 3 images")
    for name, data in {
        "start_only": plain[:2],
        "without_frame": plain[:frame] + plain[scan:],
        "without_scan": plain[:scan] + END,
        "no_tables": plain[:tables] + plain[frame:],
        "frame_cut": plain[: frame + 6] + END,
        "leading_junk": b"\0" + plain,
    }.items():
        yield OddImage(f"jpeg_{name}.jpg", data, refusal="")
    for name, height, width in (
        ("0", 0, 0),
        ("wide", HEIGHT, 65000),
        ("huge", 13000, 13000),
        ("tall", 999, WIDTH),
    ):
        data = plain[: frame + 5] + struct.pack(">HH", height, width) + plain[frame + 9 :]
        yield OddImage(f"jpeg_claims_{name}.jpg", data, refusal="")
    noise = np.random.default_rng(0).integers(0, 250, 900, np.uint8).tobytes()
    arithmetic = plain[:frame] + b"\xff\xc9" + plain[frame + 2 : scan]
    start = plain[scan : scan + 2 + int.from_bytes(plain[scan + 2 : scan + 4], "big")]
    yield OddImage("jpeg_arithmetic.jpg", arithmetic + start + noise + END, size=(HEIGHT, WIDTH))
    for marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        data = plain[: frame + 1] + bytes([marker]) + plain[frame + 2 :]
        yield OddImage(f"jpeg_frame_{marker:02x}.jpg", data, refusal="is not supported")
    pixels = np.asarray(picture())
    lossless = bytes(imagecodecs.jpeg8_encode(pixels, lossless=True))
    yield OddImage("jpeg_lossless.jpg", lossless, refusal="lossless coding is not supported")
    deep = bytes(imagecodecs.jpeg8_encode(pixels.astype(np.uint16) * 16, bitspersample=12))
    yield OddImage("jpeg_12bit.jpg", deep, refusal="12 bits is not supported")
    progressive = saved(picture(), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xc4", 0, progressive.rindex(b"\xff\xda"))
    yield OddImage(
        "jpeg_lacks_scans.jpg", progressive[:last] + END, size=(HEIGHT, WIDTH), notice="last scans"
    )
    scans: dict[str, dict[str, Any]] = {"baseline": {}, "progressive": {"progressive": True}}
    for name, options in scans.items():
        data = saved(picture("RGB", 160, 120), "JPEG", quality=95, **options)
        first = data.index(b"\xff\xda") + 40
        for end in np.linspace(first, first + (len(data) - first) * 0.2, 6).astype(int):
            yield OddImage(f"jpeg_{name}_closed_at_{end}.jpg", data[:end] + END, refusal="")


def odd_jpeg_files() -> Iterator[OddImage]:
    """Yields the odd JPEG files."""
    for make in (_codings, _inks, _orientations, _exif, _profiles, _structures):
        yield from make()


def decoded_by_pillow(data: bytes) -> Array:
    """Decodes a file by Pillow, for formats that OpenCV lacks."""
    with Image.open(BytesIO(data)) as image:
        return np.atleast_3d(np.asarray(image))
