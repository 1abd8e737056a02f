"""Names what a file is that is no photograph of a supported format, and how to get one from it."""

from __future__ import annotations

from pathlib import Path

from opera_env.data.read_jpeg import read_jpeg_data, read_structure, unsupported_coding

_HEAD_BYTES = 4096

_CONVERT = "convert it to PNG, JPEG or TIFF"
_DEVELOP = "develop it, and save it as TIFF, PNG or JPEG"

_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"GIF8", "GIF", _CONVERT),
    (0, b"\xff\x0a", "JPEG XL", _CONVERT),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", _CONVERT),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", _CONVERT),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    (0, b"II\xbc\x01", "JPEG XR", _CONVERT),
    (4, b"ftypcrx ", "a raw photograph of a camera (CR3)", _DEVELOP),
    (4, b"ftypavi", "AVIF", _CONVERT),
    *((4, b"ftyp" + brand, "HEIC", _CONVERT) for brand in (b"he", b"mif1", b"msf1")),
    (4, b"ftyp", "a video", "extract an image from it"),
    (0, b"II*\0\x10\0\0\0CR", "a raw photograph of a camera (CR2)", _DEVELOP),
    *((0, start, "a raw photograph of a camera (ORF)", _DEVELOP) for start in (b"IIRO", b"IIRS", b"MMOR")),
    (0, b"IIU\0", "a raw photograph of a camera (RW2)", _DEVELOP),
    (0, b"FUJIFILMCCD-RAW", "a raw photograph of a camera (RAF)", _DEVELOP),
    (0, b"FOVb", "a raw photograph of a camera (X3F)", _DEVELOP),
    (0, b"II\x1a\0\0\0HEAPCCDR", "a raw photograph of a camera (CRW)", _DEVELOP),
    (0, b"\0MRM", "a raw photograph of a camera (MRW)", _DEVELOP),
    (0, b"8BPS", "a Photoshop document", _CONVERT),
    (0, b"gimp xcf", "a GIMP document", _CONVERT),
    (0, b"%PDF", "a PDF document", "export the photograph as PNG, JPEG or TIFF"),
    (0, b"%!PS", "PostScript", _CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", _CONVERT),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", "convert it to TIFF with 16 bits"),
    (0, b"#?RADIANCE", "Radiance HDR", "convert it to TIFF with 16 bits"),
    (0, b"\x8aMNG", "MNG", _CONVERT),
    (0, b"\x8bJNG", "JNG", _CONVERT),
    (0, b"\0\0\1\0", "an icon (ICO)", _CONVERT),
    (0, b"icns", "an icon (ICNS)", _CONVERT),
    (0, b"qoif", "QOI", _CONVERT),
    (0, b"FLIF", "FLIF", _CONVERT),
    (0, b"BPG\xfb", "BPG", _CONVERT),
    (0, b"DDS ", "DDS", _CONVERT),
    (0, b"SIMPLE  =", "FITS", _CONVERT),
    (128, b"DICM", "DICOM", _CONVERT),
    *((0, b"P%d" % number, "PNM", _CONVERT) for number in range(1, 8)),
    (0, b"PK\3\4", "a ZIP archive", "extract the photograph"),
    (0, b"\x1f\x8b", "a gzip archive", "extract the photograph"),
    (0, b"Rar!", "a RAR archive", "extract the photograph"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "extract the photograph"),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "fetch the photograph with: git lfs pull"),
)
"""Position and bytes, name, and remedy; the first that fits counts."""


def describe_content(path: Path) -> str | None:
    """Names the content of a file that cannot be read as a photograph.

    Returns:
        What the file is and what to do; None if it is not recognised.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"\xff\xd8"):
        return unsupported_coding(read_structure(read_jpeg_data(path, 0)))
    for position, signature, name, remedy in _SIGNATURES:
        if head[position:].startswith(signature):
            return f"{name} is not supported: {remedy}"
    if head[12:16] == b"CgBI" and head.startswith(b"\x89PNG"):
        return f"PNG in Apple's own variant is not supported: {_CONVERT}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page and not an image: download the photograph itself"
    if b"<svg" in text and text.startswith(b"<"):
        return f"SVG is not supported: {_CONVERT}"
    return None
