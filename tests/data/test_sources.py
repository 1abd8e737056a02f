"""Where samples come from: sizes of pairs, labels, depth, crops, what is kept in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from opera_env.data import (
    SyntheticSource,
    agenticir,
    bundled,
    clean_folder,
    paired,
    photographs,
    resolve_source,
)
from opera_env.data.images import to_array, to_tensor, write_image
from opera_env.data.sources import AGENTICIR_DEGRADATIONS, BUNDLED_IMAGES
from opera_env.degradations import DEGRADATIONS, TRAINING_RECIPES, degrade
from opera_env.errors import ImageFileError, SampleError, UnknownDegradationError
from opera_env.types import Sample, SampleSpec


def _pair(folder: Path, lq: Any, hq: Any, canvas: int | None = None) -> Any:
    write_image(folder / "lq" / "a.png", lq)
    write_image(folder / "hq" / "a.png", hq)
    return paired(folder / "lq", folder / "hq", canvas)


def _only(source: Any) -> Sample:
    (spec,) = source.list_specs(1, (), default_rng(0))
    return source.make(spec)


# Pairs


def test_a_pair_of_one_size(tmp_path: Path, chart: Any) -> None:
    lq, hq = chart(30, 41, seed=1), chart(30, 41)
    sample = _only(_pair(tmp_path, lq, hq))
    assert np.array_equal(to_array(sample.lq), lq)
    assert sample.reference is not None
    assert np.array_equal(to_array(sample.reference), hq)
    assert sample.canvas == (30, 41)
    assert sample.degradations is None, "nobody said what is wrong with it"
    assert sample.depth is None


@pytest.mark.parametrize("extra", [(1, 0), (0, 3), (3, 2), (-1, 0), (-3, 3), (2, -2)])
def test_a_few_pixels_too_many_are_cut_not_resampled(
    tmp_path: Path, chart: Any, extra: tuple[int, int]
) -> None:
    lq, hq = chart(30, 41), chart(30 + extra[0], 41 + extra[1])
    sample = _only(_pair(tmp_path, lq, hq))
    height, width = min(30, 30 + extra[0]), min(41, 41 + extra[1])
    assert sample.canvas == (height, width)
    assert sample.reference is not None
    # Rows and columns are numbered from the top left corner: both still show the same.
    for image in (to_array(sample.lq), to_array(sample.reference)):
        assert np.array_equal(image[..., :2], chart(height, width)[..., :2])


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("extra", [(0, 0), (3, 1), (0, -2)])
def test_a_reference_that_is_some_times_larger(
    tmp_path: Path, chart: Any, factor: int, extra: tuple[int, int]
) -> None:
    if factor == 2 and extra != (0, 0):
        extra = (1, -1)
    small, large = (20, 25), (20 * factor + extra[0], 25 * factor + extra[1])
    sample = _only(_pair(tmp_path, chart(*small), chart(*large)))
    height, width = (min(a, b // factor) for a, b in zip(small, large, strict=True))
    assert sample.lq.shape == (3, height, width)
    assert sample.canvas == (height * factor, width * factor)
    assert sample.reference is not None
    assert np.array_equal(to_array(sample.reference)[..., :2], chart(*sample.canvas)[..., :2])


@pytest.mark.parametrize(
    "large", [(34, 41), (30, 45), (30, 37), (45, 60), (41, 30), (60, 41), (30, 82), (15, 20), (124, 164)]
)
def test_sizes_that_do_not_fit_are_told_with_the_files(
    tmp_path: Path, chart: Any, large: tuple[int, int]
) -> None:
    source = _pair(tmp_path, chart(30, 41), chart(*large))
    with pytest.raises(SampleError, match=rf"a\.png is 41 x 30.*{large[1]} x {large[0]}"):
        source.list_specs(1, (), default_rng(0))
    with pytest.raises(SampleError, match="41 x 30"):
        source.make(SampleSpec(source.name, 0))


def test_pairs_are_found_by_name_whatever_the_format(tmp_path: Path, chart: Any) -> None:
    for number in range(3):
        write_image(tmp_path / "lq" / f"{number}.png", chart(8, 10 + number, seed=1))
        write_image(tmp_path / "hq" / f"{number}.bmp", chart(8, 10 + number))
    write_image(tmp_path / "hq" / "more.png", chart(8, 8))
    source = paired(tmp_path / "lq", tmp_path / "hq")
    assert len(source) == 3
    assert [entry.hq.name for entry in source.entries if entry.hq] == ["0.bmp", "1.bmp", "2.bmp"]
    (tmp_path / "hq" / "1.bmp").unlink()
    with pytest.raises(SampleError, match=r"1\.png has no partner.*hq"):
        paired(tmp_path / "lq", tmp_path / "hq")


def test_two_partners_of_one_name_are_told(tmp_path: Path, chart: Any) -> None:
    """Which of the two is the reference is not for us to guess."""
    write_image(tmp_path / "lq" / "a.png", chart(8, 8))
    write_image(tmp_path / "hq" / "a.png", chart(8, 8))
    write_image(tmp_path / "hq" / "a.bmp", chart(8, 8, seed=1))
    with pytest.raises(SampleError, match="a"):
        paired(tmp_path / "lq", tmp_path / "hq")


@pytest.mark.parametrize("factor", [1, 4])
def test_crops_of_a_pair_show_the_same_place(tmp_path: Path, chart: Any, factor: int) -> None:
    source = _pair(tmp_path, chart(40, 60), chart(40 * factor, 60 * factor), canvas=32)
    rng = default_rng(0)
    places = set()
    for _ in range(20):
        sample = source.make(source.draw(rng))
        assert sample.canvas == (32, 32)
        assert sample.reference is not None
        large, small = to_array(sample.reference).astype(int), to_array(sample.lq).astype(int)
        top, left = large[0, 0, :2]
        places.add((int(top), int(left)))
        assert (top % factor, left % factor) == (0, 0)
        assert tuple(small[0, 0, :2] * factor) == (top, left)
        assert tuple(small[-1, -1, :2] * factor + factor - 1) == tuple(large[-1, -1, :2])
    assert len(places) > 10


def test_a_crop_off_the_grid_or_outside_is_told(tmp_path: Path, chart: Any) -> None:
    source = _pair(tmp_path, chart(40, 60), chart(160, 240))
    with pytest.raises(SampleError, match="multiples of 4"):
        source.make(SampleSpec(source.name, 0, crop=(2, 0, 32, 32)))
    for crop in ((0, 0, 164, 32), (-4, 0, 32, 32), (0, 220, 32, 32), (0, 0, 0, 32)):
        with pytest.raises(SampleError, match="outside"):
            source.make(SampleSpec(source.name, 0, crop=crop))


def test_a_crop_larger_than_the_image_is_the_image(tmp_path: Path, chart: Any) -> None:
    assert _only(_pair(tmp_path, chart(20, 60), chart(20, 60), canvas=32)).canvas == (20, 32)


# The benchmark's folders


def _benchmark(root: Path, chart: Any) -> None:
    for number in ("001", "002"):
        write_image(root / "HQ" / f"{number}.png", chart(16, 24))
        write_image(root / "LQ" / "d2" / "dark+noise" / f"{number}.png", chart(16, 24, seed=1))
        write_image(
            root / "LQ" / "d3" / "haze+motion blur+low resolution" / f"{number}.png", chart(4, 6, seed=1)
        )


def test_the_benchmarks_layout(tmp_path: Path, chart: Any) -> None:
    _benchmark(tmp_path / "MiO100", chart)
    source = agenticir(tmp_path / "MiO100")
    assert len(source) == 4
    assert source.name == "MiO100"
    samples = [source.make(spec) for spec in source.list_specs(4, (), default_rng(0))]
    assert [sample.spec.recipe for sample in samples] == [
        ("low_light", "noise"),
        ("low_light", "noise"),
        ("haze", "motion_blur", "low_resolution"),
        ("haze", "motion_blur", "low_resolution"),
    ]
    for sample in samples:
        assert sample.degradations == frozenset(sample.spec.recipe)
        assert sample.canvas == (16, 24)
        assert sample.depth is None, "the haze was not made here"
    assert samples[2].lq.shape == (3, 4, 6)


def test_the_benchmarks_names_are_the_eight_degradations() -> None:
    assert set(AGENTICIR_DEGRADATIONS.values()) == set(DEGRADATIONS)
    assert AGENTICIR_DEGRADATIONS["dark"] == "low_light"
    assert AGENTICIR_DEGRADATIONS["jpeg compression artifact"] == "jpeg"
    assert len(AGENTICIR_DEGRADATIONS) == 8


def test_other_layouts_are_told(tmp_path: Path, chart: Any) -> None:
    with pytest.raises(SampleError, match="LQ/d2"):
        agenticir(tmp_path)
    _benchmark(tmp_path, chart)
    write_image(tmp_path / "LQ" / "d2" / "dark+fog" / "001.png", chart(16, 24))
    with pytest.raises(SampleError, match=r"'fog'.*haze"):
        agenticir(tmp_path)
    (tmp_path / "LQ" / "d2" / "dark+fog" / "001.png").unlink()
    (tmp_path / "LQ" / "d2" / "dark+fog").rmdir()
    (tmp_path / "HQ" / "002.png").unlink()
    with pytest.raises(SampleError, match=r"002\.png has no partner"):
        agenticir(tmp_path)


def test_only_images_are_references(tmp_path: Path, chart: Any) -> None:
    """Captions and depth maps of the same name lie beside the images in many data sets."""
    _benchmark(tmp_path, chart)
    for suffix in (".txt", ".mat", ".npy", ".json"):
        (tmp_path / "HQ" / f"001{suffix}").write_text("not an image")
    source = agenticir(tmp_path)
    assert {entry.hq.suffix for entry in source.entries if entry.hq} == {".png"}
    assert source.make(source.list_specs(1, (), default_rng(0))[0]).reference is not None


# Plain photographs


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_photographs_have_a_canvas_and_no_secrets(tmp_path: Path, chart: Any, scale: int) -> None:
    write_image(tmp_path / "a.png", chart(18, 25))
    sample = _only(photographs(tmp_path, scale=scale))
    assert np.array_equal(to_array(sample.lq), chart(18, 25))
    assert sample.canvas == (18 * scale, 25 * scale)
    assert sample.reference is None
    assert sample.degradations is None
    assert sample.spec.recipe == ()


def test_photographs_may_be_cropped_in_pixels_of_the_result(tmp_path: Path, chart: Any) -> None:
    write_image(tmp_path / "a.png", chart(18, 25))
    source = photographs(tmp_path, scale=4, canvas=32)
    rng = default_rng(0)
    for _ in range(10):
        sample = source.make(source.draw(rng))
        assert sample.canvas == (32, 32)
        assert sample.lq.shape == (3, 8, 8)
        assert sample.spec.crop is not None
        top, left = to_array(sample.lq)[0, 0, :2]
        assert (top * 4, left * 4) == sample.spec.crop[:2]


def test_photographs_one_by_one(tmp_path: Path, chart: Any) -> None:
    for name in ("b.png", "a.png"):
        write_image(tmp_path / name, chart(8, 8))
    source = photographs([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert [entry.lq.name for entry in source.entries] == ["b.png", "a.png"]
    with pytest.raises(ImageFileError, match=r"c\.png"):
        _only(photographs([tmp_path / "c.png"]))
    with pytest.raises(SampleError, match="no images"):
        photographs([])
    with pytest.raises(SampleError, match="sub"):
        photographs(tmp_path / "sub")


def test_a_damaged_file_among_many_is_told(tmp_path: Path, chart: Any) -> None:
    write_image(tmp_path / "a.png", chart(16, 16))
    (tmp_path / "b.png").write_bytes(b"")
    for source in (photographs(tmp_path), clean_folder(tmp_path, canvas=8, recipes=[("noise",)])):
        with pytest.raises(ImageFileError, match=r"b\.png"):
            source.list_specs(2, [("noise",)], default_rng(0))


# Synthesis


def _clean(folder: Path, chart: Any, *sizes: tuple[int, int]) -> Path:
    for number, size in enumerate(sizes):
        write_image(folder / f"{number}.png", chart(*size, seed=number))
    return folder


@pytest.mark.parametrize("canvas", [None, 16, 32, 64])
@pytest.mark.parametrize("size", [(40, 52), (41, 55), (34, 33), (7, 70), (64, 64)])
def test_crops_are_multiples_of_4(
    tmp_path: Path, chart: Any, canvas: int | None, size: tuple[int, int]
) -> None:
    source = clean_folder(_clean(tmp_path, chart, size), canvas, [("low_resolution",), ("jpeg",)])
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
        assert np.array_equal(image[..., :2], chart(*size)[top:, left:][: expected[0], : expected[1], :2])
        assert (top % 4, left % 4) == (0, 0)
        if sample.spec.recipe == ("low_resolution",):
            assert sample.lq.shape == (3, expected[0] // 4, expected[1] // 4)


def test_every_crop_can_be_drawn(tmp_path: Path, chart: Any) -> None:
    source = clean_folder(_clean(tmp_path, chart, (40, 24)), 16, [("jpeg",)])
    rng = default_rng(0)
    seen = {source.draw(rng).crop for _ in range(300)}
    assert seen == {(top, left, 16, 16) for top in range(0, 25, 4) for left in (0, 4, 8)}


def test_a_sample_is_its_reference_degraded(tmp_path: Path, chart: Any) -> None:
    source = clean_folder(_clean(tmp_path, chart, (40, 52)), 32)
    for recipe in (("noise",), ("rain", "low_resolution"), ("haze", "noise"), ()):
        spec = SampleSpec(source.name, 0, recipe, 5, (4, 8, 32, 32))
        sample = source.make(spec)
        crop = chart(40, 52)[4:36, 8:40]
        expected, _ = degrade(crop, recipe, default_rng(5))
        assert torch.equal(sample.lq, to_tensor(expected))
        assert sample.degradations == frozenset(recipe)
        assert sample.spec == spec
        assert sample.depth == ("procedural" if "haze" in recipe else None)


def test_what_a_specification_cannot_ask_for(tmp_path: Path, chart: Any) -> None:
    source = clean_folder(_clean(tmp_path / "mine", chart, (40, 52)), 32)
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
def test_a_canvas_that_is_no_multiple_of_4(tmp_path: Path, chart: Any, canvas: int) -> None:
    _clean(tmp_path, chart, (40, 52))
    with pytest.raises(SampleError, match="multiple of 4"):
        clean_folder(tmp_path, canvas)


def test_recipes_and_ratio(tmp_path: Path, chart: Any) -> None:
    _clean(tmp_path, chart, (40, 52))
    rng = default_rng(0)
    lengths = [len(clean_folder(tmp_path, 16).draw(rng).recipe) for _ in range(450)]
    shares = [lengths.count(length) / 450 for length in (1, 2, 3)]
    assert shares == pytest.approx([1 / 9, 3 / 9, 5 / 9], abs=0.07)
    only = clean_folder(tmp_path, 16, ratio={2: 1.0})
    assert {len(only.draw(rng).recipe) for _ in range(30)} == {2}
    own = clean_folder(tmp_path, 16, recipes=[("noise",), ("jpeg", "noise")])
    assert {own.draw(rng).recipe for _ in range(60)} == {("noise",), ("jpeg", "noise")}
    with pytest.raises(UnknownDegradationError, match="fog"):
        clean_folder(tmp_path, 16, recipes=[("fog",)])
    assert clean_folder(tmp_path, 16).recipes == TRAINING_RECIPES


def test_an_image_of_under_4_pixels(tmp_path: Path, chart: Any) -> None:
    _clean(tmp_path, chart, (3, 40))
    with pytest.raises(SampleError, match=r"0\.png"):
        clean_folder(tmp_path, 16).draw(default_rng(0))
    with pytest.raises(SampleError, match="no images"):
        SyntheticSource([], "empty")


def test_evaluation_goes_through_images_and_recipes_in_turn(tmp_path: Path, chart: Any) -> None:
    source = clean_folder(_clean(tmp_path, chart, *[(40, 52)] * 3), 16)
    recipes = [("noise",), ("jpeg",), ("rain",)]
    specs = source.list_specs(9, recipes, default_rng(0))
    assert [spec.recipe[0] for spec in specs] == ["noise", "jpeg", "rain"] * 3
    assert len({(spec.index, spec.recipe) for spec in specs}) == 9, "every image with every recipe"
    assert all([spec.index for spec in specs].count(index) == 3 for index in range(3))
    assert specs == source.list_specs(9, recipes, default_rng(0))
    assert len({spec.seed for spec in specs}) == 9


# Depth


def test_depth_from_files(tmp_path: Path, chart: Any) -> None:
    _clean(tmp_path / "images", chart, (42, 54), (42, 54))
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
    expected, _ = degrade(chart(42, 54)[8:24, 12:28], ("haze",), default_rng(3), depth)
    assert np.abs(to_array(with_file.lq).astype(int) - expected).max() <= 1
    whole = source.make(SampleSpec("images", 0, ("haze",), 3, None))
    assert whole.canvas == (40, 52)
    assert whole.depth == "file"


def test_depth_maps_of_a_quarter_of_the_size(tmp_path: Path, chart: Any) -> None:
    """As the benchmark publishes them."""
    from scipy.io import savemat

    _clean(tmp_path / "images", chart, (40, 56))
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


def test_a_damaged_map_is_told_not_replaced(tmp_path: Path, chart: Any) -> None:
    _clean(tmp_path / "images", chart, (40, 56))
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "0.npy").write_bytes(b"")
    source = clean_folder(tmp_path / "images", 16, depth=tmp_path / "depth")
    with pytest.raises(SampleError, match=r"0\.npy"):
        source.make(SampleSpec("images", 0, ("haze",), 3, (0, 0, 16, 16)))


def test_a_folder_of_depth_that_is_not_there_is_told(tmp_path: Path, chart: Any) -> None:
    """A typing mistake would turn every depth into a made-up one."""
    _clean(tmp_path / "images", chart, (40, 56))
    with pytest.raises(SampleError, match="detph"):
        source = clean_folder(tmp_path / "images", 16, depth=tmp_path / "detph")
        source.make(SampleSpec("images", 0, ("haze",), 3, (0, 0, 16, 16)))


# What is shipped


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


def test_opening_by_name(tmp_path: Path, chart: Any) -> None:
    assert resolve_source(None).name == "bundled"
    assert resolve_source("bundled", canvas=64).make(  # type: ignore[attr-defined]
        resolve_source("bundled", canvas=64).draw(default_rng(0))
    ).canvas == (64, 64)
    _clean(tmp_path / "mine", chart, (40, 52))
    assert resolve_source(str(tmp_path / "mine"), 16).name == "mine"
    own = photographs(tmp_path / "mine")
    assert resolve_source(own) is own
    with pytest.raises(SampleError, match="nowhere"):
        resolve_source("nowhere")
