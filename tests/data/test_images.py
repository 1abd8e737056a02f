"""Image files: every kind of file becomes upright 8-bit RGB, or an error with its path."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from opera_env.data.images import (
    list_images,
    quantise,
    read_image,
    read_images,
    to_array,
    to_pil,
    to_tensor,
    write_image,
)
from opera_env.errors import ImageFileError, OperaError, SampleError

ORIENTATION = 0x0112


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
def test_written_images_are_read_unchanged(tmp_path: Path, coordinate_image: Any, suffix: str) -> None:
    path = tmp_path / "new" / f"image{suffix}"
    image = coordinate_image(13, 17)
    write_image(path, image)
    assert np.array_equal(read_image(path), image)
    assert np.array_equal(read_image(str(path)), image)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_change_little(tmp_path: Path, suffix: str) -> None:
    image = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    write_image(tmp_path / f"image{suffix}", image)
    assert np.abs(read_image(tmp_path / f"image{suffix}").astype(int) - image).max() <= 6


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, subtests: pytest.Subtests) -> None:
    """The file is rotated or mirrored; the image has its red corner at the top left again."""
    for orientation in range(1, 9):
        with subtests.test(orientation=orientation):
            _check_orientation(tmp_path, orientation, suffix)


def _check_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright_image = np.full((24, 40, 3), 255, np.uint8)
    upright_image[:8, :8] = (255, 0, 0)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # to PIL's transpositions that undo it
    stored = Image.fromarray(upright_image)
    if orientation in back:
        stored = stored.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / f"image{suffix}", exif=exif, **({"quality": 95} if suffix == ".jpg" else {}))
    image = read_image(tmp_path / f"image{suffix}")
    assert image.shape == (24, 40, 3)
    assert np.abs(image.astype(int) - upright_image).mean() < 4
    assert image[2, 2, 1] < 60


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_exif_orientation_of_a_tiff_is_applied_once(
    tmp_path: Path, coordinate_image: Any, stored_with_orientation: Any, compression: str
) -> None:
    """Pillow applies it while it loads the file, so it must not be applied again."""
    upright_image, path = coordinate_image(5, 9), tmp_path / "image.tif"
    for orientation in range(1, 9):
        stored = stored_with_orientation(upright_image, orientation)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, compression=compression)
        assert np.array_equal(read_image(path), upright_image), orientation


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tag", [0x010E, 0x011A, 0x0128])  # description, resolution and its unit
def test_exif_values_of_the_wrong_type_are_ignored(
    tmp_path: Path, tag: int, subtests: pytest.Subtests
) -> None:
    """Phones write numbers as text and text as numbers; the pixels are intact."""
    for kind in (1, 2, 3, 5, 7, 12):
        with subtests.test(kind=kind):
            _check_exif_type(tmp_path, tag, kind)


def _check_exif_type(tmp_path: Path, tag: int, kind: int) -> None:
    entries = struct.pack(">HHIHHHHI4sI", 0x0112, 3, 1, 6, 0, tag, kind, 1, b"abcd", 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(tmp_path / "image.jpg", exif=exif)
    try:
        image = read_image(tmp_path / "image.jpg")
    except ImageFileError:
        return
    assert image.shape == (16, 8, 3), "orientation 6: rotated by 90 degrees"


COLOURS = np.array([[(0, 0, 0), (255, 255, 255)], [(255, 0, 0), (10, 200, 30)]], np.uint8)


def test_palettes_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).quantize(4).save(tmp_path / "image.png")
    assert Image.open(tmp_path / "image.png").mode == "P"
    assert np.array_equal(read_image(tmp_path / "image.png"), COLOURS)


def test_palettes_with_transparency_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).quantize(4).save(tmp_path / "image.png", transparency=1)
    assert np.array_equal(read_image(tmp_path / "image.png"), COLOURS)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.array([[0, 255, 0], [255, 0, 255]], np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path, suffix: str) -> None:
    """The upper eight bits are kept, as libpng does; levels above 255 do not all become white."""
    levels = np.array([[0, 255, 256], [32768, 25700, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"image{suffix}")
    image = read_image(tmp_path / f"image{suffix}").astype(int)
    assert np.abs(image - (levels / 257)[..., None]).max() <= 1


def test_thirty_two_bit_numbers_are_refused_or_scaled(tmp_path: Path) -> None:
    """Floats in [0, 1] that are cut to whole numbers would give a black image without a notice."""
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "image.tif")
    try:
        image = read_image(tmp_path / "image.tif")
    except ImageFileError:
        return
    assert np.abs(image / 255 - ramp[..., None]).max() <= 0.01


def test_sixteen_bit_colours_are_reduced_to_eight(tmp_path: Path) -> None:
    import cv2

    levels = np.array([[(0, 25700, 65535), (32768, 257, 5140)]], np.uint16)
    cv2.imwrite(str(tmp_path / "image.png"), levels[..., ::-1])
    image = read_image(tmp_path / "image.png").astype(int)
    assert np.abs(image - levels / 257).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(tmp_path: Path, mode: str) -> None:
    opaque = Image.fromarray(COLOURS).convert(mode)
    opaque.save(tmp_path / "opaque.png")
    expected = np.asarray(Image.fromarray(COLOURS).convert("L" if mode == "LA" else "RGB").convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "opaque.png"), expected)
    half = opaque.copy()
    half.putalpha(128)
    half.save(tmp_path / "half.png")
    assert np.array_equal(read_image(tmp_path / "half.png"), expected)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "image.jpg")
    assert read_image(tmp_path / "image.jpg").min() > 245


def test_a_renamed_image_is_read_by_its_content(tmp_path: Path, coordinate_image: Any) -> None:
    Image.fromarray(coordinate_image(8, 8)).save(tmp_path / "image.bmp")
    os.rename(tmp_path / "image.bmp", tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), coordinate_image(8, 8))


def _broken(kind: str, folder: Path, coordinate_image: Any) -> Path:
    path = folder / "image.png"
    if kind == "folder":
        path.mkdir()
    elif kind != "absent":
        Image.fromarray(coordinate_image(64, 64)).save(path)
        whole = path.read_bytes()
        path.write_bytes(
            {
                "empty": b"",
                "text": b"not an image",
                "half": whole[: len(whole) // 2],
                "header": whole[:33],
                "signature": whole[:8],
                "corrupt": whole[:60] + bytes(200) + whole[260:],
                "no pixels": whole[:16] + bytes(8) + whole[24:],
            }[kind]
        )
    return path


@pytest.mark.parametrize(
    "kind",
    ["absent", "folder", "empty", "text", "half", "header", "signature", "corrupt", "no pixels"],
)
def test_unreadable_files_are_refused_with_their_path(
    kind: str, tmp_path: Path, coordinate_image: Any
) -> None:
    path = _broken(kind, tmp_path, coordinate_image)
    with pytest.raises(ImageFileError) as caught:
        read_image(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp"])
def test_damaged_files_give_an_image_or_an_image_file_error(
    suffix: str, tmp_path: Path, coordinate_image: Any
) -> None:
    """Decoders raise errors of all kinds; all of them become ImageFileError."""
    path = tmp_path / f"image{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {"exif": exif} if suffix in (".jpg", ".png", ".tif", ".webp") else {}
    Image.fromarray(coordinate_image(24, 24)).save(path, **options)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole[: int(rng.integers(1, len(whole) + 1))])
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            image = read_image(path)
        except ImageFileError:
            continue
        assert image.dtype == np.uint8
        assert image.ndim == 3


@pytest.mark.parametrize("error", [OSError, ValueError, SyntaxError])
def test_errors_of_decoders_name_the_path(
    tmp_path: Path, coordinate_image: Any, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Broken files make Pillow raise all three, rarely enough that no small test file does."""
    write_image(tmp_path / "image.png", coordinate_image(8, 8))

    def load(self: Any, *arguments: Any) -> Any:
        raise error("broken data stream")

    monkeypatch.setattr(Image.Image, "convert", load)
    with pytest.raises(ImageFileError, match=r"image\.png.*broken data stream"):
        read_image(tmp_path / "image.png")


def test_an_image_of_too_many_pixels_is_refused(
    tmp_path: Path, coordinate_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "image.png", coordinate_image(64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageFileError, match="too many pixels"):
        read_image(tmp_path / "image.png")


def test_a_file_that_may_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"secret")

    def deny(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(ImageFileError, match=r"a\.png: cannot be read: .*Permission denied"):
        read_image(tmp_path / "a.png")


def test_read_images_reads_several_files(tmp_path: Path, coordinate_image: Any) -> None:
    for number in range(3):
        write_image(tmp_path / f"{number}.png", coordinate_image(8, 8 + number))
    images = read_images(list_images(tmp_path))
    assert [image.shape[1] for image in images] == [8, 9, 10]


def test_a_failed_write_keeps_the_existing_file(
    tmp_path: Path, coordinate_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    write_image(path, coordinate_image(8, 8))
    before = path.read_bytes()

    def full(self: Any, target: Any, **options: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space"):
            write_image(path, coordinate_image(9, 9))
        with pytest.raises(OSError, match="No space"):
            write_image(tmp_path / "other.png", coordinate_image(9, 9))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["image", "image.txt", "image.png.bak"])
def test_an_unknown_format_is_refused(tmp_path: Path, coordinate_image: Any, name: str) -> None:
    with pytest.raises(ImageFileError, match=r"\.png") as caught:
        write_image(tmp_path / name, coordinate_image(8, 8))
    assert caught.value.path == tmp_path / name
    assert list(tmp_path.iterdir()) == []


def test_list_images(tmp_path: Path, coordinate_image: Any) -> None:
    for name in ("b.png", "a.JPG", "c.jpeg", "notes.txt", ".b.png.part", "d.npy"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub").mkdir()
    write_image(tmp_path / "sub" / "e.png", coordinate_image(8, 8))
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png", "c.jpeg"]
    assert list_images(str(tmp_path)) == list_images(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "file.txt", "empty"])
def test_a_folder_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SampleError, match=name):
        list_images(tmp_path / name)


def test_tensors_and_arrays_are_converted_into_each_other(coordinate_image: Any) -> None:
    image = coordinate_image(6, 9)
    tensor = to_tensor(image)
    assert tensor.shape == (3, 6, 9)
    assert tensor.dtype == torch.float32
    assert tensor[0, 5, 0].item() == pytest.approx(5 / 255)
    assert tensor[1, 0, 8].item() == pytest.approx(8 / 255)
    assert np.array_equal(to_array(tensor), image)
    assert np.array_equal(np.asarray(to_pil(tensor)), image)
    assert np.array_equal(to_array(quantise(tensor)), image)
    before = image.copy()
    tensor.mul_(0)
    assert np.array_equal(image, before), "not a view"


def test_every_grey_level_survives_a_round_trip() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert np.array_equal(to_array(to_tensor(levels)), levels)


def test_quantising_clamps_and_rounds() -> None:
    values = torch.tensor([-1.0, -0.001, 0.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 1.0, 1.7])
    image = values.view(1, 1, 9).repeat(3, 1, 1)
    before = image.clone()
    assert quantise(image)[0, 0].tolist() == [0, 0, 0, 0, 1, 254, 255, 255, 255]
    assert torch.equal(image, before)
    assert quantise(torch.rand(2, 5, 3, 4, 4)).shape == (2, 5, 3, 4, 4)


def test_errors_share_a_base_class() -> None:
    assert issubclass(ImageFileError, OperaError)
    assert issubclass(SampleError, OperaError)
