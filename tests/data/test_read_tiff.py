"""TIFF files of all kinds: the pixels that Pillow reads, or a refusal that names what is not supported."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from opera_env.data.images import read_image
from opera_env.data.read import read_photo, read_size
from opera_env.data.read_8bit import convert_to_srgb
from opera_env.errors import ImageFileError

Pixels = np.ndarray[Any, Any]


def noise(*shape: int, dtype: Any = np.uint8) -> Pixels:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def change_tag(path: Path, name: str, value: int, code: str = "<H") -> None:
    """Writes another value over a tag of one value."""
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        place = page.tags[name].valueoffset
    data = bytearray(path.read_bytes())
    data[place : place + struct.calcsize(code)] = struct.pack(code, value)
    path.write_bytes(data)


def refusal(path: Path) -> str:
    messages = set[str]()
    for read in (read_photo, read_image):
        with pytest.raises(ImageFileError) as caught:
            read(path)
        messages.add(str(caught.value))
    assert len(messages) == 1
    (message,) = messages
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB"]
COMPRESSIONS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd", "lzma"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_pixels_are_those_that_pillow_reads(tmp_path: Path, mode: str, compression: str) -> None:
    path = tmp_path / "a.tif"
    pixels = noise(29, 41, 4)
    if mode == "LAB":
        picture = Image.frombytes("LAB", (41, 29), pixels[..., :3].tobytes())
    elif mode in ("P", "CMYK"):
        picture = Image.fromarray(pixels[..., :3])
        picture = picture.quantize(200) if mode == "P" else picture.convert(mode)
    else:
        picture = Image.fromarray(pixels).convert(mode)
    picture.save(path, compression=compression)
    with Image.open(path) as opened:
        same = convert_to_srgb(opened, None, []) if mode == "LAB" else opened
        same = same.convert({"1": "L", "P": "RGB", "CMYK": "RGB", "LAB": "RGB"}.get(mode, mode))
        expected = np.atleast_3d(np.asarray(same))
    photo = read_photo(path)
    assert photo.dpi is None
    if photo.alpha is None:
        assert np.array_equal(photo.pixels, expected)
    else:
        assert np.array_equal(np.concatenate([photo.pixels, photo.alpha[..., None]], 2), expected)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_facsimile_pages_are_read(tmp_path: Path, compression: str, photometric: int) -> None:
    black = noise(40, 70) > 100
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = photometric
    Image.fromarray(black).save(tmp_path / "a.tif", compression=compression, tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as opened:
        expected = np.asarray(opened.convert("L"))
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels[..., 0], expected)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("photometric", [0, 1])
def test_two_and_four_bits_keep_their_brightness(tmp_path: Path, bits: int, photometric: int) -> None:
    levels = np.arange(2**bits)
    packed = "".join(f"{level:0{bits}b}" for level in levels)
    data = int(packed, 2).to_bytes(len(packed) // 8, "big")
    entries = [(256, len(levels)), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1)]
    entries += [(278, 1), (279, len(data))]
    data += b"\0" * (len(data) % 2)
    body = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries))
    (tmp_path / "a.tif").write_bytes(head + body + bytes(4))
    expected = levels * 255 // (2**bits - 1)
    found = read_photo(tmp_path / "a.tif").pixels[0, :, 0]
    assert found.tolist() == (expected if photometric else 255 - expected).tolist()


@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "tiled planes"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_layouts_of_storage(tmp_path: Path, layout: str, dtype: Any) -> None:
    pixels = noise(45, 70, 3, dtype=dtype)
    options: dict[str, Any] = {"tile": (16, 32)} if "tile" in layout else {"rowsperstrip": 7}
    if "planes" in layout:
        options |= {"planarconfig": "separate"}
    stored = np.moveaxis(pixels, -1, 0) if "planes" in layout else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", compression="zlib", **options)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("writer", ["Pillow", "strips", "tiles"])
def test_jpeg_within_tiff(tmp_path: Path, mode: str, writer: str) -> None:
    path = tmp_path / "a.tif"
    pixels = np.array(Image.linear_gradient("L").resize((70, 45)).convert("RGB"))
    pixels[..., 1] //= 2
    picture = Image.fromarray(pixels).convert(mode)
    if writer == "Pillow":
        picture.save(path, compression="jpeg", quality=90)
    else:
        options: dict[str, Any] = {"rowsperstrip": 16} if writer == "strips" else {"tile": (32, 32)}
        kind: Any = {"L": "minisblack", "RGB": "rgb", "CMYK": "separated"}[mode]
        tifffile.imwrite(path, np.asarray(picture), photometric=kind, compression="jpeg", **options)
    with Image.open(path) as opened:
        expected = np.atleast_3d(np.asarray(opened.convert("L" if mode == "L" else "RGB")))
    assert np.abs(read_photo(path).pixels.astype(int) - expected).max() <= 2
    assert np.abs(expected[..., :1].astype(int) - pixels[..., :1]).mean() < 60


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_last_strip_may_be_as_long_as_the_others(
    tmp_path: Path, compression: Any, planes: bool, dtype: Any
) -> None:
    pixels = noise(48, 21, 3, dtype=dtype)
    stored = np.moveaxis(pixels, -1, 0) if planes else pixels
    planar: Any = "separate" if planes else "contig"
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        rowsperstrip=16,
    )
    change_tag(tmp_path / "a.tif", "ImageLength", 39)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, pixels[:39])


def subsampled(picture: Image.Image, across: int, down: int, rows: int, compression: str | None) -> bytes:
    """Returns a TIFF file of YCbCr, written by hand: the first chroma of each unit counts."""
    levels = np.asarray(picture.convert("YCbCr"))
    height, width = levels.shape[:2]
    padded = np.pad(levels, ((0, -height % down), (0, -width % across), (0, 0)), "edge")
    strips = []
    for top in range(0, height, rows):
        part = padded[top : top + rows + (-rows % down)]
        units = part.reshape(len(part) // down, down, -1, across, 3).swapaxes(1, 2)
        luma = units[..., 0].reshape(*units.shape[:2], -1)
        strips.append(np.concatenate([luma, units[:, :, 0, 0, 1:]], axis=2).tobytes())
    if compression == "lzw":
        strips = [imagecodecs.lzw_encode(strip) for strip in strips]
    counts, start, data = [len(strip) for strip in strips], 8, b"".join(strips)
    offsets = [start + sum(counts[:index]) for index in range(len(counts))]
    lists = start + len(data)
    tail = struct.pack(f"<{2 * len(counts)}I3H", *offsets, *counts, 8, 8, 8)
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, lists + 8 * len(counts))]
    entries += [(259, 3, 1, 5 if compression else 1), (262, 3, 1, 6)]
    single = len(counts) == 1
    entries += [(273, 4, len(counts), offsets[0] if single else lists), (277, 3, 1, 3), (278, 3, 1, rows)]
    entries += [(279, 4, len(counts), counts[0] if single else lists + 4 * len(counts))]
    entries += [(530, 3, 2, across | down << 16)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", lists + len(tail)) + data + tail + body + bytes(4)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("rows", [8, 64])
@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4)])
def test_luma_and_chroma_without_jpeg(
    tmp_path: Path, across: int, down: int, rows: int, compression: str | None
) -> None:
    path = tmp_path / "a.tif"
    picture = Image.fromarray(noise(5, 6, 3)).resize((41, 30), Image.Resampling.BICUBIC)
    path.write_bytes(subsampled(picture, across, down, rows, compression))
    found = read_photo(path).pixels.astype(int)
    if compression == "lzw" and down < 4:  # else libtiff refuses the file or misses the last column
        with Image.open(path) as opened:
            by_libtiff = np.asarray(opened.convert("RGB"))
        assert np.abs(found - by_libtiff).max() <= 1
    assert np.abs(found - np.asarray(picture)).mean() < (2 if across == down == 1 else 25)
    path.write_bytes(
        path.read_bytes().replace(struct.pack("<HHII", 257, 3, 1, 30), struct.pack("<HHII", 257, 3, 1, 90))
    )
    refusal(path)


def test_luma_and_chroma_of_pillow(tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 16), (200, 100, 50))
    picture.convert("YCbCr").save(tmp_path / "a.tif", compression="tiff_lzw")
    photo = read_photo(tmp_path / "a.tif")
    assert np.abs(photo.pixels.astype(int) - (200, 100, 50)).max() <= 2
    assert read_size(tmp_path / "a.tif") == (16, 32)


@pytest.mark.parametrize(
    ("extra", "expected"), [("unassalpha", (40, 80, 120)), ("assocalpha", (79, 159, 239))]
)
def test_alpha_of_eight_bits(tmp_path: Path, extra: str, expected: tuple[int, ...]) -> None:
    pixels = np.full((4, 4, 4), (40, 80, 120, 128), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[extra])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels[0, 0].tolist() == list(expected)
    assert photo.alpha is not None and photo.alpha[0, 0] == 128


# Refused: not supported

NESTED = {
    "lerc": "LERC",
    "jpegxl": "JPEG XL",
    "jpeg2000": "JPEG 2000",
    "jpegxr": "JPEG XR",
    "png": "PNG",
    "webp": "WebP",
}


@pytest.mark.parametrize(
    ("compression", "name", "dtype"),
    [
        *((*pair, np.uint8) for pair in NESTED.items()),
        *((*pair, np.uint16) for pair in NESTED.items() if pair[0] != "webp"),
    ],
)
def test_a_compression_that_is_not_supported_is_named(
    tmp_path: Path, compression: str, name: str, dtype: Any
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", noise(32, 32, 3, dtype=dtype), photometric="rgb", compression=compression
    )
    assert refusal(tmp_path / "a.tif") == (
        f"TIFF with the compression {name} is not supported: save it with LZW, Deflate or none"
    )


@pytest.mark.parametrize(
    ("code", "name"), [(6, "old-style JPEG"), (34661, "JBIG"), (34712, "JPEG 2000"), (4711, "number 4711")]
)
def test_any_other_compression_is_named(tmp_path: Path, code: int, name: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 32, 3), photometric="rgb")
    change_tag(tmp_path / "a.tif", "Compression", code)
    assert f"the compression {name} is not supported" in refusal(tmp_path / "a.tif")


def test_raw_photographs_of_cameras_are_not_taken_for_their_preview(tmp_path: Path) -> None:
    preview, sensor = noise(16, 16, 3), noise(64, 64, dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / "dng.tif") as file:
        file.write(preview, photometric="rgb", extratags=[(50706, "B", 4, b"\1\4\0\0", True)])
    with tifffile.TiffWriter(tmp_path / "nef.tif") as file:
        file.write(preview, photometric="rgb", subifds=1)
        file.write(sensor, photometric="cfa")
    tifffile.imwrite(tmp_path / "cfa.tif", sensor, photometric="cfa")
    for name in ("dng", "nef", "cfa"):
        assert "a raw photograph of a camera is not supported" in refusal(tmp_path / f"{name}.tif")


# Refused: cut short or damaged


@pytest.mark.parametrize(
    ("compression", "dtype"),
    [
        *((name, np.uint8) for name in (None, "lzw", "zlib", "packbits", "zstd", "lzma", "jpeg")),
        *((name, np.uint16) for name in (None, "lzw", "zlib", "packbits", "zstd", "lzma")),
    ],
)
@pytest.mark.parametrize("taller", ["more strips", "taller strips"])
def test_fewer_rows_than_the_header_says_are_noticed(
    tmp_path: Path, dtype: Any, compression: Any, taller: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, noise(200, 60, 3, dtype=dtype), photometric="rgb", compression=compression, rowsperstrip=16
    )
    change_tag(path, "ImageLength", 400)
    if taller == "taller strips":
        change_tag(path, "RowsPerStrip", 32)
    refusal(path)


@pytest.mark.parametrize(
    ("compression", "dtype"),
    [
        *((name, np.uint8) for name in (None, "lzw", "zlib", "jpeg")),
        *((name, np.uint16) for name in (None, "lzw", "zlib")),
    ],
)
def test_how_much_of_a_file_is_there_is_reported(tmp_path: Path, dtype: Any, compression: Any) -> None:
    path, stored = tmp_path / "a.tif", BytesIO()
    tifffile.imwrite(
        stored, noise(200, 60, 3, dtype=dtype), photometric="rgb", compression=compression, rowsperstrip=16
    )
    path.write_bytes(stored.getvalue()[: len(stored.getvalue()) // 2])
    assert refusal(path).startswith("cut short, only ")


def test_absent_tags_are_not_guessed(tmp_path: Path) -> None:
    for tag in (258, 262):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, noise(32, 32, 3), photometric="rgb")
        entry = path.read_bytes().index(struct.pack("<H", tag) + b"\3\0")
        data = bytearray(path.read_bytes())
        data[entry : entry + 2] = struct.pack("<H", 60000 + tag)
        path.write_bytes(data)
        assert "lacks the tag" in refusal(path)


def test_a_tile_or_strip_cannot_be_larger_than_the_page_says(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(32, 32, 3), photometric="rgb", tile=(16, 16), compression="zlib")
    change_tag(path, "TileWidth", 65520)
    change_tag(path, "TileLength", 65520)
    refusal(path)
    tifffile.imwrite(path, noise(32, 32, 3), photometric="rgb", compression="jpeg")
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", 65500, 65500)
    path.write_bytes(data)
    assert refusal(path) == "damaged: a part claims 65500 x 65500 pixels"


def test_data_that_expand_beyond_the_image_take_no_memory(tmp_path: Path) -> None:
    """A strip of 200 MB in a page of 21 x 21 pixels."""
    path = tmp_path / "a.tif"
    data = imagecodecs.zlib_encode(bytes(200_000_000), level=9)
    tifffile.imwrite(path, noise(21, 21), photometric="minisblack", compression="zlib", metadata=None)
    change_tag(path, "StripOffsets", path.stat().st_size, "<I")
    change_tag(path, "StripByteCounts", len(data), "<H" if len(data) < 65536 else "<I")
    path.write_bytes(path.read_bytes() + data)
    refusal(path)
