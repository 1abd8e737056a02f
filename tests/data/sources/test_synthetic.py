"""Sources of clean photographs that are degraded on demand: crops, recipes, depth maps."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image

from opera_env.data import (
    SyntheticSource,
    bundled,
    clean_folder,
)
from opera_env.data.images import to_array, to_tensor
from opera_env.data.sources import BUNDLED_IMAGES
from opera_env.degradations import TRAINING_RECIPES, degrade
from opera_env.errors import ImageFileError, SampleError, UnknownDegradationError
from opera_env.types import SampleSpec


@pytest.mark.parametrize("canvas", [None, 16, 32, 64])
@pytest.mark.parametrize("size", [(40, 52), (41, 55), (34, 33), (7, 70), (64, 64)])
def test_crops_are_multiples_of_4(
    tmp_path: Path,
    coordinate_image: Any,
    write_photographs: Callable[..., Path],
    canvas: int | None,
    size: tuple[int, int],
) -> None:
    source = clean_folder(write_photographs(tmp_path, size), canvas, [("low_resolution",), ("jpeg",)])
    rng = default_rng(0)
    whole = [side // 4 * 4 for side in size]
    for _ in range(8):
        sample = source.make(source.draw(rng))
        expected = tuple(side if canvas is None else min(canvas, side) for side in whole)
        assert sample.canvas == expected
        assert sample.reference is not None
        image = to_array(sample.reference).astype(int)
        top, left = image[0, 0, :2]
        # The reference is the photograph itself, uncut but for its rim.
        assert np.array_equal(
            image[..., :2], coordinate_image(*size)[top:, left:][: expected[0], : expected[1], :2]
        )
        assert (top % 4, left % 4) == (0, 0)
        if sample.spec.recipe == ("low_resolution",):
            assert sample.lq.shape == (3, expected[0] // 4, expected[1] // 4)


def test_every_crop_can_be_drawn(tmp_path: Path, write_photographs: Callable[..., Path]) -> None:
    source = clean_folder(write_photographs(tmp_path, (40, 24)), 16, [("jpeg",)])
    rng = default_rng(0)
    crops = {source.draw(rng).crop for _ in range(300)}
    assert crops == {(top, left, 16, 16) for top in range(0, 25, 4) for left in (0, 4, 8)}


def test_a_sample_is_its_reference_degraded(
    tmp_path: Path, coordinate_image: Any, write_photographs: Callable[..., Path]
) -> None:
    source = clean_folder(write_photographs(tmp_path, (40, 52)), 32)
    for recipe in (("noise",), ("rain", "low_resolution"), ("haze", "noise"), ()):
        spec = SampleSpec(source.name, 0, recipe, 5, (4, 8, 32, 32))
        sample = source.make(spec)
        crop = coordinate_image(40, 52)[4:36, 8:40]
        expected, _ = degrade(crop, recipe, default_rng(5))
        assert torch.equal(sample.lq, to_tensor(expected))
        assert sample.degradations == frozenset(recipe)
        assert replace(sample.spec, image="", sha256="") == spec
        assert sample.depth == ("procedural" if "haze" in recipe else None)


def test_unusable_specifications_are_refused(
    tmp_path: Path, write_photographs: Callable[..., Path]
) -> None:
    source = clean_folder(write_photographs(tmp_path / "mine", (40, 52)), 32)
    good = SampleSpec("mine", 0, ("noise",), 0, (0, 0, 32, 32))
    source.make(good)
    for wrong, words in (
        (SampleSpec("other", 0), "'other'.*'mine'"),
        (SampleSpec("mine", 1), "0 to 0, found 1"),
        (SampleSpec("mine", -1), "found -1"),
        (SampleSpec("mine", 0, ("noise",), 0, (16, 0, 32, 32)), "outside"),
        (SampleSpec("mine", 0, ("noise",), 0, (0, 24, 32, 32)), "outside"),
        (SampleSpec("mine", 0, ("noise",), 0, (-4, 0, 32, 32)), "outside"),
        (SampleSpec("mine", 0, ("low_resolution",), 0, (0, 0, 30, 32)), "multiples of 4"),
    ):
        with pytest.raises(SampleError, match=words):
            source.make(wrong)
    with pytest.raises(UnknownDegradationError):
        source.make(SampleSpec("mine", 0, ("fog",), 0, (0, 0, 32, 32)))


@pytest.mark.parametrize("canvas", [0, -4, 30, 2])
def test_a_canvas_that_is_no_multiple_of_4(
    tmp_path: Path, write_photographs: Callable[..., Path], canvas: int
) -> None:
    write_photographs(tmp_path, (40, 52))
    with pytest.raises(SampleError, match="multiple of 4"):
        clean_folder(tmp_path, canvas)


def test_recipes_and_length_weights(tmp_path: Path, write_photographs: Callable[..., Path]) -> None:
    write_photographs(tmp_path, (40, 52))
    rng = default_rng(0)
    lengths = [len(clean_folder(tmp_path, 16).draw(rng).recipe) for _ in range(450)]
    shares = [lengths.count(length) / 450 for length in (1, 2, 3)]
    assert shares == pytest.approx([1 / 9, 3 / 9, 5 / 9], abs=0.07)
    only = clean_folder(tmp_path, 16, length_weights={2: 1.0})
    assert {len(only.draw(rng).recipe) for _ in range(30)} == {2}
    source = clean_folder(tmp_path, 16, recipes=[("noise",), ("jpeg", "noise")])
    assert {source.draw(rng).recipe for _ in range(60)} == {("noise",), ("jpeg", "noise")}
    with pytest.raises(UnknownDegradationError, match="fog"):
        clean_folder(tmp_path, 16, recipes=[("fog",)])
    assert clean_folder(tmp_path, 16).recipes == TRAINING_RECIPES


def test_an_image_of_under_4_pixels(tmp_path: Path, write_photographs: Callable[..., Path]) -> None:
    write_photographs(tmp_path, (3, 40))
    with pytest.raises(SampleError, match=r"0\.png"):
        clean_folder(tmp_path, 16).draw(default_rng(0))
    with pytest.raises(SampleError, match="no images"):
        SyntheticSource([], "empty")


def test_evaluation_goes_through_images_and_recipes_in_turn(
    tmp_path: Path, write_photographs: Callable[..., Path]
) -> None:
    source = clean_folder(write_photographs(tmp_path, *[(40, 52)] * 3), 16)
    recipes = [("noise",), ("jpeg",), ("rain",)]
    specs = source.list_specs(9, recipes, default_rng(0))
    assert [spec.recipe[0] for spec in specs] == ["noise", "jpeg", "rain"] * 3
    assert len({(spec.index, spec.recipe) for spec in specs}) == 9, "every image with every recipe"
    assert all([spec.index for spec in specs].count(index) == 3 for index in range(3))
    assert specs == source.list_specs(9, recipes, default_rng(0))
    assert len({spec.seed for spec in specs}) == 9


def test_the_bundled_photographs() -> None:
    source = bundled()
    assert len(source) == len(BUNDLED_IMAGES) == 8
    assert source.name == "bundled"
    for index in range(len(source)):
        sample = source.make(SampleSpec("bundled", index))
        assert min(sample.canvas) >= 128
        assert sample.reference is not None
        colour = (sample.reference.amax(0) - sample.reference.amin(0)).mean()
        assert colour > 0.01, "a colour photograph"


# Depth maps


def test_depth_from_files(
    tmp_path: Path, coordinate_image: Any, write_photographs: Callable[..., Path]
) -> None:
    write_photographs(tmp_path / "images", (42, 54), (42, 54))
    ramp = np.linspace(0.2, 2.0, 42)[:, None] * np.ones((1, 54))
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "0.npy", ramp)
    source = clean_folder(tmp_path / "images", 16, depth=tmp_path / "depth")
    crop = (8, 12, 16, 16)
    with_file, without, dry = (
        source.make(SampleSpec("images", index, recipe, 3, crop))
        for index, recipe in ((0, ("haze",)), (1, ("haze",)), (0, ("noise",)))
    )
    assert (with_file.depth, without.depth, dry.depth) == ("file", "procedural", None)
    # The map belongs to the whole photograph, and is cut like it.
    depth = (ramp / ramp.max()).astype(np.float32)[8:24, 12:28]
    expected, _ = degrade(coordinate_image(42, 54)[8:24, 12:28], ("haze",), default_rng(3), depth)
    assert np.abs(to_array(with_file.lq).astype(int) - expected).max() <= 1
    whole = source.make(SampleSpec("images", 0, ("haze",), 3, None))
    assert whole.canvas == (40, 52)
    assert whole.depth == "file"


def test_depth_maps_of_a_quarter_of_the_size(
    tmp_path: Path, write_photographs: Callable[..., Path]
) -> None:
    """As the benchmark publishes them."""
    from scipy.io import savemat

    write_photographs(tmp_path / "images", (40, 56))
    (tmp_path / "depth" / "0").mkdir(parents=True)
    savemat(tmp_path / "depth" / "0" / "predict_depth.mat", {"data_obj": np.ones((10, 14))})
    sample = clean_folder(tmp_path / "images", None, depth=tmp_path / "depth").make(
        SampleSpec("images", 0, ("haze",), 3)
    )
    assert sample.depth == "file"
    # Everything equally far: the haze is one grey over everything, so order is kept.
    assert sample.reference is not None
    reference, hazy = sample.reference[0].flatten(), sample.lq[0].flatten()
    order = reference.argsort()
    assert bool((hazy[order].diff() >= -1e-6).all())


def test_a_damaged_depth_map_is_refused_and_not_replaced(
    tmp_path: Path, write_photographs: Callable[..., Path]
) -> None:
    write_photographs(tmp_path / "images", (40, 56))
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "0.npy").write_bytes(b"")
    source = clean_folder(tmp_path / "images", 16, depth=tmp_path / "depth")
    with pytest.raises(SampleError, match=r"0\.npy"):
        source.make(SampleSpec("images", 0, ("haze",), 3, (0, 0, 16, 16)))


def test_depth_maps_of_png_hold_what_they_claim(
    tmp_path: Path, write_photographs: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV prints what is wrong with them, and takes memory for any size."""
    write_photographs(tmp_path / "images", (40, 56))
    (tmp_path / "depth").mkdir()
    path = tmp_path / "depth" / "0.png"
    spec = SampleSpec("images", 0, ("haze",), 3, (0, 0, 16, 16))
    Image.fromarray(default_rng(0).integers(1, 255, (40, 56)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    source = clean_folder(tmp_path / "images", 16, depth=tmp_path / "depth")
    assert source.make(spec).depth == "file"
    header = whole[12:16] + struct.pack(">II", 13000, 13000) + whole[24:29]
    claim = whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    for data, reason in (
        (whole[: len(whole) // 2], "cut short"),
        (claim, "it claims 13000 x 13000 pixels"),
    ):
        path.write_bytes(data)
        with pytest.raises(ImageFileError, match=reason):
            source.make(spec)
    assert capfd.readouterr().err == ""


def test_an_absent_folder_of_depth_maps_is_refused(
    tmp_path: Path, write_photographs: Callable[..., Path]
) -> None:
    """Otherwise a typing mistake would make every depth procedural."""
    write_photographs(tmp_path / "images", (40, 56))
    with pytest.raises(SampleError, match="detph"):
        source = clean_folder(tmp_path / "images", 16, depth=tmp_path / "detph")
        source.make(SampleSpec("images", 0, ("haze",), 3, (0, 0, 16, 16)))
