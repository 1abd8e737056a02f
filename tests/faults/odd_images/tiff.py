"""Odd TIFF files: tifffile and Pillow write them, and tags are changed by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.faults.odd_images.image import HEIGHT, SRGB, WIDTH, Array, OddImage, levels, saved, stored_with

COMPRESSIONS = (None, "lzw", "zlib", "packbits", "zstd", "lzma")


def tiff(pixels: Array, photometric: str = "", planes: bool = False, **options: Any) -> bytes:
    """Returns the file that tifffile writes for pixels (H, W, C)."""
    channels = pixels.shape[2]
    kind: Any = photometric or ("rgb" if channels >= 3 else "minisblack")
    colours = {"rgb": 3, "separated": 4, "cielab": 3, "ycbcr": 3}.get(kind, 1)
    if channels > colours and "extrasamples" not in options:
        options["extrasamples"] = ["unassalpha"] * (channels - colours)
    if channels == 1:
        stored = pixels[..., 0]
    else:
        stored = np.moveaxis(pixels, -1, 0) if planes else pixels
        options["planarconfig"] = "separate" if planes else "contig"
    file = BytesIO()
    tifffile.imwrite(file, np.ascontiguousarray(stored), photometric=kind, metadata=None, **options)
    return file.getvalue()


def with_tags(data: bytes, **values: int) -> bytes:
    """Writes other values over tags of one value."""
    changed = bytearray(data)
    with tifffile.TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        for name, value in values.items():
            code = "<I" if page.tags[name].dtype == tifffile.DATATYPE.LONG else "<H"
            place = page.tags[name].valueoffset
            changed[place : place + struct.calcsize(code)] = struct.pack(code, value)
    return bytes(changed)


def renumbered(data: bytes, number: int, new: int = 65000) -> bytes:
    """Gives a tag another number; by default a private one, so that it is absent."""
    entry = data.index(struct.pack("<H", number), int.from_bytes(data[4:8], "little"))
    return data[:entry] + struct.pack("<H", new) + data[entry + 2 :]


def _split(pixels: Array) -> dict[str, Any]:
    alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else None
    return {"pixels": pixels if alpha is None else pixels[..., :-1], "alpha": alpha}


def _storage() -> Iterator[OddImage]:
    for bits in (8, 16):
        for channels in (1, 2, 3, 4):
            pixels = levels(HEIGHT, WIDTH, channels, bits)
            for compression in COMPRESSIONS:
                for order in "<>":
                    name = f"{bits}bit_{channels}ch_{compression}_{'little' if order == '<' else 'big'}"
                    data = tiff(pixels, compression=compression, byteorder=order)
                    yield OddImage(f"tiff_{name}.tif", data, **_split(pixels))
        pixels = levels(HEIGHT, WIDTH, 3, bits)
        layouts: dict[str, dict[str, Any]] = {
            "one_row_strips": {"rowsperstrip": 1},
            "tall_strip": {"rowsperstrip": 60000},
            "tiles": {"tile": (16, 16)},
            "large_tile": {"tile": (64, 128)},
            "planes": {"planes": True},
            "tiled_planes": {"planes": True, "tile": (16, 32)},
            "bigtiff": {"bigtiff": True},
            "predictor": {"predictor": True, "compression": "zlib"},
            "tiled_predictor": {"predictor": True, "compression": "lzw", "tile": (16, 16)},
            "planar_predictor": {"predictor": True, "compression": "zlib", "planes": True},
            "strange_software": {"software": "\x1b[31m\nname"},
            "resolution_0": {"resolution": (0, 1), "resolutionunit": "inch"},
            "resolution_cm": {"resolution": (100, 200), "resolutionunit": "centimeter"},
            "profile": {"iccprofile": SRGB},
        }
        for name, options in layouts.items():
            for compression in dict.fromkeys((options.pop("compression", None), "zlib", "zstd")):
                data = tiff(pixels, compression=compression, **options)
                icc = SRGB if name == "profile" else None
                yield OddImage(f"tiff_{bits}bit_{name}_{compression}.tif", data, pixels, icc=icc)
        for height, width in ((1, 1), (1, 9), (9, 1), (1, 20000), (20000, 1)):
            pixels = levels(height, width, 3, bits)
            yield OddImage(f"tiff_{bits}bit_{width}x{height}.tif", tiff(pixels), pixels)


def _colours() -> Iterator[OddImage]:
    for bits in (8, 16):
        grey = levels(HEIGHT, WIDTH, 1, bits)
        inverted = np.iinfo(grey.dtype).max - grey
        yield OddImage(f"tiff_{bits}bit_white_is_0.tif", tiff(inverted, "miniswhite"), grey)
        five = levels(HEIGHT, WIDTH, 5, bits)
        data = tiff(five, extrasamples=["unspecified", "unassalpha"])
        known: dict[str, Any] = {"pixels": five[..., :3], "alpha": five[..., 4]}
        yield OddImage(f"tiff_{bits}bit_five_channels.tif", data, notice="left out", **known)
        four = levels(HEIGHT, WIDTH, 4, bits)
        data = tiff(four, extrasamples=["unspecified"])
        yield OddImage(f"tiff_{bits}bit_unknown_channel.tif", data, four[..., :3], notice="left out")
        solid = four.copy()
        solid[..., 3] = np.iinfo(four.dtype).max
        data = tiff(solid, extrasamples=["assocalpha"])
        yield OddImage(f"tiff_{bits}bit_multiplied.tif", data, solid[..., :3], solid[..., 3])
        inks = levels(HEIGHT, WIDTH, 4, bits)
        known = {"refusal": "grey or RGB"} if bits == 16 else {"size": (HEIGHT, WIDTH), "notice": "CMYK"}
        yield OddImage(f"tiff_{bits}bit_cmyk.tif", tiff(inks, "separated"), **known)
        data = tiff(levels(HEIGHT, WIDTH, 3, bits), "cielab")
        known = {"refusal": "grey or RGB"} if bits == 16 else {"size": (HEIGHT, WIDTH), "notice": "LAB"}
        yield OddImage(f"tiff_{bits}bit_lab.tif", data, **known)
    for mode in ("1", "P", "CMYK", "LAB"):
        picture = Image.fromarray(levels(HEIGHT, WIDTH, 3))
        picture = Image.new("LAB", (WIDTH, HEIGHT), (100, 90, 80)) if mode == "LAB" else picture
        picture = picture.quantize(99) if mode == "P" else picture.convert(mode)
        for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
            data = saved(picture, "TIFF", compression=compression)
            name = f"tiff_pillow_{mode}_{compression}.tif"
            if mode in ("CMYK", "LAB"):
                yield OddImage(name, data, size=(HEIGHT, WIDTH), notice="became sRGB")
            else:
                target = "L" if mode == "1" else "RGB"
                yield OddImage(name, data, np.atleast_3d(np.asarray(picture.convert(target))))
    black = Image.fromarray(levels(HEIGHT, WIDTH, 1)[..., 0]).convert("1")
    for compression in ("group3", "group4", "tiff_ccitt"):
        pixels = np.atleast_3d(np.asarray(black.convert("L")))
        yield OddImage(f"tiff_{compression}.tif", saved(black, "TIFF", compression=compression), pixels)
    flat = Image.new("RGB", (WIDTH, HEIGHT), (200, 100, 50))
    pixels = np.asarray(flat)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
        data = saved(flat.convert("YCbCr"), "TIFF", compression=compression)
        yield OddImage(f"tiff_ycbcr_{compression}.tif", data, pixels, tolerance=2)
    yield OddImage("tiff_jpeg.tif", saved(flat, "TIFF", compression="jpeg"), pixels, tolerance=3)
    pixels = np.asarray(flat.resize((48, 32)))
    tiled = tiff(pixels, compression="jpeg", tile=(16, 16))
    yield OddImage("tiff_jpeg_tiles.tif", tiled, pixels, tolerance=3)


def _orientations() -> Iterator[OddImage]:
    for orientation in (*range(1, 9), 0, 9, 65535):
        for bits in (8, 16):
            for order in "<>":
                upright = levels(HEIGHT, WIDTH, 3, bits)
                stored = np.ascontiguousarray(stored_with(upright, orientation))
                tags = [(274, "H", 1, orientation, True)]
                data = tiff(stored, byteorder=order, extratags=tags, compression="lzw")
                name = f"tiff_{bits}bit_orientation{orientation}_{'little' if order == '<' else 'big'}.tif"
                yield OddImage(name, data, upright)


def _pages() -> Iterator[OddImage]:
    for bits in (8, 16):
        first = levels(HEIGHT, WIDTH, 3, bits)
        file = BytesIO()
        with tifffile.TiffWriter(file) as writer:
            for page in (first, first[::-1], first[:9, :9]):
                writer.write(page, photometric="rgb", metadata=None)
        name = f"tiff_{bits}bit_three_pages.tif"
        yield OddImage(name, file.getvalue(), first, notice="first of its 3 images")
        data = tiff(first)
        with tifffile.TiffFile(BytesIO(data)) as opened:
            page: Any = opened.pages[0]
            place = page.offset + 2 + 12 * len(page.tags)
        loop = data[:place] + struct.pack("<I", page.offset) + data[place + 4 :]
        yield OddImage(f"tiff_{bits}bit_page_loop.tif", loop)
        far = data[:place] + struct.pack("<I", 2**31) + data[place + 4 :]
        yield OddImage(f"tiff_{bits}bit_page_far.tif", far)
    preview = levels(HEIGHT, WIDTH, 3)
    raw = tiff(preview, extratags=[(50706, "B", 4, b"\1\4\0\0", True)])
    yield OddImage("tiff_dng.dng.tif", raw, refusal="raw photograph")
    sensor = tiff(levels(HEIGHT, WIDTH, 1, 16), "cfa")
    yield OddImage("tiff_sensor.tif", sensor, refusal="raw photograph")


def _refused() -> Iterator[OddImage]:
    whole = levels(HEIGHT, WIDTH, 1)[..., 0]
    kinds = ("float16", "float32", "float64", "int8", "int16", "int32", "uint32", "uint64", "complex64")
    for kind in kinds:
        data = tiff(whole.astype(kind)[..., None])
        yield OddImage(f"tiff_{kind}.tif", data, refusal="8 or 16 bits")
    for compression in ("jpegxl", "jpeg2000", "jpegxr", "png", "webp"):
        data = tiff(levels(64, 64, 3), compression=compression)
        yield OddImage(f"tiff_{compression}.tif", data, refusal="is not supported")
    # LERC's encoder leaves some bytes unset: two files of the same picture may differ.
    data = with_tags(tiff(levels(64, 64, 3)), Compression=34887)
    yield OddImage("tiff_lerc.tif", data, refusal="is not supported")
    for bits in (8, 16):
        pixels = levels(60, WIDTH, 3, bits)
        data = tiff(pixels, rowsperstrip=8, compression="zlib")
        plain = tiff(pixels)
        changed = {
            "number_4711": with_tags(data, Compression=4711),
            "old_jpeg": with_tags(data, Compression=6),
            "jbig": with_tags(data, Compression=34661),
            "predictor_9": with_tags(tiff(pixels, compression="zlib", predictor=True), Predictor=9),
            "more_rows": with_tags(data, ImageLength=90),
            "taller_strips": with_tags(data, ImageLength=120, RowsPerStrip=16),
            "claims": with_tags(data, ImageLength=13000, ImageWidth=13000),
            "no_rows": with_tags(plain, ImageLength=0),
            "no_columns": with_tags(plain, ImageWidth=0),
            "no_bytes": with_tags(plain, StripByteCounts=0),
            "beyond_the_end": with_tags(plain, StripOffsets=2**31),
            "cut": plain[: len(plain) // 2],
            "without_photometric": renumbered(data, 262),
            "without_depth": renumbered(data, 258),
            "without_width": renumbered(data, 256),
            "without_offsets": renumbered(data, 273),
            "mask": with_tags(plain, PhotometricInterpretation=4),
            "photometric_999": with_tags(plain, PhotometricInterpretation=999),
        }
        for name, content in changed.items():
            yield OddImage(f"tiff_{bits}bit_{name}.tif", content, refusal="")
        lenient = {
            "fill_order_2": renumbered(tiff(pixels, extratags=[(65001, "H", 1, 2, True)]), 65001, 266),
            "rows_per_strip_0": with_tags(plain, RowsPerStrip=0),
            "without_counts": renumbered(plain, 279),
            "without_rows_per_strip": renumbered(plain, 278),
            "planar_3": with_tags(plain, PlanarConfiguration=3),
        }
        for name, content in lenient.items():
            yield OddImage(f"tiff_{bits}bit_{name}.tif", content)
    for name, content in {
        "signature": b"II*\0",
        "no_page": b"II*\0" + bytes(4),
        "page_beyond": b"II*\0" + struct.pack("<I", 2**31),
        "empty_page": b"II*\0" + struct.pack("<IHI", 8, 0, 0),
        "many_tags": b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(500),
        "big_signature": b"II+\0\x08\0\0\0" + bytes(8),
    }.items():
        yield OddImage(f"tiff_{name}.tif", content, refusal="")


def odd_tiff_files() -> Iterator[OddImage]:
    """Yields the odd TIFF files."""
    for make in (_storage, _colours, _orientations, _pages, _refused):
        yield from make()
