"""Files that are no photographs of a supported format are named, with what to do."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from opera_env.data.images import read_image
from opera_env.data.read import read_photo
from opera_env.data.recognise import describe_content
from opera_env.errors import ImageFileError

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a" + bytes(30), "GIF"),
        (imagecodecs.jpegxl_encode(PIXELS), "JPEG XL"),
        (imagecodecs.jpeg2k_encode(PIXELS, codecformat="jp2"), "JPEG 2000"),
        (imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k"), "JPEG 2000"),
        (imagecodecs.jpegls_encode(PIXELS), "JPEG with JPEG-LS coding"),
        (imagecodecs.jpegxr_encode(PIXELS), "JPEG XR"),
        (imagecodecs.avif_encode(PIXELS), "AVIF"),
        (imagecodecs.jpeg8_encode(PIXELS, lossless=True), "JPEG with lossless coding"),
        (imagecodecs.jpeg8_encode(PIXELS.astype(np.uint16), bitspersample=12), "JPEG with 12 bits"),
        (b"\0\0\0\x18ftypheic" + bytes(30), "HEIC"),
        (b"\0\0\0\x18ftypmif1" + bytes(30), "HEIC"),
        (b"\0\0\0\x18ftypisom" + bytes(30), "a video"),
        (b"\0\0\0\x18ftypcrx " + bytes(30), "a raw photograph of a camera (CR3)"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(30), "a raw photograph of a camera (RAF)"),
        (b"IIRO\x08\0\0\0" + bytes(30), "a raw photograph of a camera (ORF)"),
        (b"8BPS\0\1" + bytes(30), "a Photoshop document"),
        (b"%PDF-1.7\n" + bytes(30), "a PDF document"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (bytes(128) + b"DICM" + bytes(30), "DICOM"),
        (b"P6 2 2 255\n" + bytes(12), "PNM"),
        (b"PK\3\4" + bytes(30), "a ZIP archive"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(30), "PNG in Apple's own variant"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageFileError) as caught:
        read_photo(path)
    message = str(caught.value).removeprefix(f"{path}: ")
    assert message.startswith(f"{name} is not supported: ")
    assert "\n" not in message


def test_a_web_page_is_named(tmp_path: Path) -> None:
    for start in (b"<!DOCTYPE html>", b"\xef\xbb\xbf\n<HTML>"):
        (tmp_path / "a.jpg").write_bytes(start + b"<title>404</title>")
        with pytest.raises(ImageFileError, match="a web page and not an image: download"):
            read_photo(tmp_path / "a.jpg")


def test_what_is_not_recognised_is_damaged_or_of_an_unknown_format(tmp_path: Path) -> None:
    for content in (b"\0", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"BM", b"text"):
        (tmp_path / "a.jpg").write_bytes(content)
        assert describe_content(tmp_path / "a.jpg") is None
        with pytest.raises(ImageFileError, match="damaged"):
            read_photo(tmp_path / "a.jpg")


def test_sources_read_some_of_these_formats(tmp_path: Path) -> None:
    """Pillow reads them, and sources take whatever Pillow reads."""
    (tmp_path / "a.png").write_bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat="jp2"))
    assert np.array_equal(read_image(tmp_path / "a.png"), PIXELS)
