"""Sources of degraded files: sizes of pairs, labels, crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng

from opera_env.data import (
    agenticir,
    clean_folder,
    paired,
    photographs,
)
from opera_env.data.images import to_array, write_image
from opera_env.data.sources.files import AGENTICIR_DEGRADATIONS
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import ImageFileError, SampleError
from opera_env.types import Sample, SampleSpec


def _pair(folder: Path, lq: Any, hq: Any, canvas: int | None = None) -> Any:
    write_image(folder / "lq" / "a.png", lq)
    write_image(folder / "hq" / "a.png", hq)
    return paired(folder / "lq", folder / "hq", canvas)


def _only(source: Any) -> Sample:
    (spec,) = source.list_specs(1, (), default_rng(0))
    return source.make(spec)


# Pairs


def test_a_pair_of_one_size(tmp_path: Path, coordinate_image: Any) -> None:
    lq, hq = coordinate_image(30, 41, seed=1), coordinate_image(30, 41)
    sample = _only(_pair(tmp_path, lq, hq))
    assert np.array_equal(to_array(sample.lq), lq)
    assert sample.reference is not None
    assert np.array_equal(to_array(sample.reference), hq)
    assert sample.canvas == (30, 41)
    assert sample.degradations is None, "the labels are unknown"
    assert sample.depth is None


@pytest.mark.parametrize("extra", [(1, 0), (0, 3), (3, 2), (-1, 0), (-3, 3), (2, -2)])
def test_a_few_pixels_too_many_are_cut_not_resampled(
    tmp_path: Path, coordinate_image: Any, extra: tuple[int, int]
) -> None:
    lq, hq = coordinate_image(30, 41), coordinate_image(30 + extra[0], 41 + extra[1])
    sample = _only(_pair(tmp_path, lq, hq))
    height, width = min(30, 30 + extra[0]), min(41, 41 + extra[1])
    assert sample.canvas == (height, width)
    assert sample.reference is not None
    # Rows and columns are numbered from the top left corner: both still show the same.
    for image in (to_array(sample.lq), to_array(sample.reference)):
        assert np.array_equal(image[..., :2], coordinate_image(height, width)[..., :2])


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("extra", [(0, 0), (3, 1), (0, -2)])
def test_a_reference_that_is_a_whole_number_of_times_larger(
    tmp_path: Path, coordinate_image: Any, factor: int, extra: tuple[int, int]
) -> None:
    if factor == 2 and extra != (0, 0):
        extra = (1, -1)
    small, large = (20, 25), (20 * factor + extra[0], 25 * factor + extra[1])
    sample = _only(_pair(tmp_path, coordinate_image(*small), coordinate_image(*large)))
    height, width = (min(a, b // factor) for a, b in zip(small, large, strict=True))
    assert sample.lq.shape == (3, height, width)
    assert sample.canvas == (height * factor, width * factor)
    assert sample.reference is not None
    assert np.array_equal(to_array(sample.reference)[..., :2], coordinate_image(*sample.canvas)[..., :2])


@pytest.mark.parametrize(
    "large", [(34, 41), (30, 45), (30, 37), (45, 60), (41, 30), (60, 41), (30, 82), (15, 20), (124, 164)]
)
def test_sizes_that_do_not_fit_are_refused_with_the_files(
    tmp_path: Path, coordinate_image: Any, large: tuple[int, int]
) -> None:
    source = _pair(tmp_path, coordinate_image(30, 41), coordinate_image(*large))
    with pytest.raises(SampleError, match=rf"a\.png is 41 x 30.*{large[1]} x {large[0]}"):
        source.list_specs(1, (), default_rng(0))
    with pytest.raises(SampleError, match="41 x 30"):
        source.make(SampleSpec(source.name, 0))


def test_pairs_are_found_by_name_whatever_the_format(tmp_path: Path, coordinate_image: Any) -> None:
    for number in range(3):
        write_image(tmp_path / "lq" / f"{number}.png", coordinate_image(8, 10 + number, seed=1))
        write_image(tmp_path / "hq" / f"{number}.bmp", coordinate_image(8, 10 + number))
    write_image(tmp_path / "hq" / "more.png", coordinate_image(8, 8))
    source = paired(tmp_path / "lq", tmp_path / "hq")
    assert len(source) == 3
    assert [entry.reference.name for entry in source.entries if entry.reference] == [
        "0.bmp",
        "1.bmp",
        "2.bmp",
    ]
    (tmp_path / "hq" / "1.bmp").unlink()
    with pytest.raises(SampleError, match=r"1\.png has no partner.*hq"):
        paired(tmp_path / "lq", tmp_path / "hq")


def test_two_references_of_one_name_are_refused(tmp_path: Path, coordinate_image: Any) -> None:
    """Which of the two is the reference cannot be known."""
    write_image(tmp_path / "lq" / "a.png", coordinate_image(8, 8))
    write_image(tmp_path / "hq" / "a.png", coordinate_image(8, 8))
    write_image(tmp_path / "hq" / "a.bmp", coordinate_image(8, 8, seed=1))
    with pytest.raises(SampleError, match="a"):
        paired(tmp_path / "lq", tmp_path / "hq")


@pytest.mark.parametrize("factor", [1, 4])
def test_crops_of_a_pair_show_the_same_place(tmp_path: Path, coordinate_image: Any, factor: int) -> None:
    source = _pair(
        tmp_path, coordinate_image(40, 60), coordinate_image(40 * factor, 60 * factor), canvas=32
    )
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


def test_a_crop_off_the_grid_or_outside_is_refused(tmp_path: Path, coordinate_image: Any) -> None:
    source = _pair(tmp_path, coordinate_image(40, 60), coordinate_image(160, 240))
    with pytest.raises(SampleError, match="multiples of 4"):
        source.make(SampleSpec(source.name, 0, crop=(2, 0, 32, 32)))
    for crop in ((0, 0, 164, 32), (-4, 0, 32, 32), (0, 220, 32, 32), (0, 0, 0, 32)):
        with pytest.raises(SampleError, match="outside"):
            source.make(SampleSpec(source.name, 0, crop=crop))


def test_a_crop_larger_than_the_image_is_the_image(tmp_path: Path, coordinate_image: Any) -> None:
    assert _only(_pair(tmp_path, coordinate_image(20, 60), coordinate_image(20, 60), canvas=32)).canvas == (
        20,
        32,
    )


# The folders of the benchmark


def _benchmark(root: Path, coordinate_image: Any) -> None:
    for number in ("001", "002"):
        write_image(root / "HQ" / f"{number}.png", coordinate_image(16, 24))
        write_image(root / "LQ" / "d2" / "dark+noise" / f"{number}.png", coordinate_image(16, 24, seed=1))
        write_image(
            root / "LQ" / "d3" / "haze+motion blur+low resolution" / f"{number}.png",
            coordinate_image(4, 6, seed=1),
        )


def test_the_benchmarks_layout(tmp_path: Path, coordinate_image: Any) -> None:
    _benchmark(tmp_path / "MiO100", coordinate_image)
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
        assert sample.depth is None, "the source did not apply the haze"
    assert samples[2].lq.shape == (3, 4, 6)


def test_the_benchmarks_names_are_the_eight_degradations() -> None:
    assert set(AGENTICIR_DEGRADATIONS.values()) == set(DEGRADATIONS)
    assert AGENTICIR_DEGRADATIONS["dark"] == "low_light"
    assert AGENTICIR_DEGRADATIONS["jpeg compression artifact"] == "jpeg"
    assert len(AGENTICIR_DEGRADATIONS) == 8


def test_other_layouts_are_refused(tmp_path: Path, coordinate_image: Any) -> None:
    with pytest.raises(SampleError, match="LQ/d2"):
        agenticir(tmp_path)
    _benchmark(tmp_path, coordinate_image)
    write_image(tmp_path / "LQ" / "d2" / "dark+fog" / "001.png", coordinate_image(16, 24))
    with pytest.raises(SampleError, match=r"'fog'.*haze"):
        agenticir(tmp_path)
    (tmp_path / "LQ" / "d2" / "dark+fog" / "001.png").unlink()
    (tmp_path / "LQ" / "d2" / "dark+fog").rmdir()
    (tmp_path / "HQ" / "002.png").unlink()
    with pytest.raises(SampleError, match=r"002\.png has no partner"):
        agenticir(tmp_path)


def test_only_images_are_references(tmp_path: Path, coordinate_image: Any) -> None:
    """Many data sets have captions and depth maps of the same name beside the images."""
    _benchmark(tmp_path, coordinate_image)
    for suffix in (".txt", ".mat", ".npy", ".json"):
        (tmp_path / "HQ" / f"001{suffix}").write_text("not an image")
    source = agenticir(tmp_path)
    assert {entry.reference.suffix for entry in source.entries if entry.reference} == {".png"}
    assert source.make(source.list_specs(1, (), default_rng(0))[0]).reference is not None


# Plain photographs


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_photographs_have_a_canvas_and_neither_reference_nor_labels(
    tmp_path: Path, coordinate_image: Any, scale: int
) -> None:
    write_image(tmp_path / "a.png", coordinate_image(18, 25))
    sample = _only(photographs(tmp_path, scale=scale))
    assert np.array_equal(to_array(sample.lq), coordinate_image(18, 25))
    assert sample.canvas == (18 * scale, 25 * scale)
    assert sample.reference is None
    assert sample.degradations is None
    assert sample.spec.recipe == ()


def test_photographs_may_be_cropped_in_pixels_of_the_result(tmp_path: Path, coordinate_image: Any) -> None:
    write_image(tmp_path / "a.png", coordinate_image(18, 25))
    source = photographs(tmp_path, scale=4, canvas=32)
    rng = default_rng(0)
    for _ in range(10):
        sample = source.make(source.draw(rng))
        assert sample.canvas == (32, 32)
        assert sample.lq.shape == (3, 8, 8)
        assert sample.spec.crop is not None
        top, left = to_array(sample.lq)[0, 0, :2]
        assert (top * 4, left * 4) == sample.spec.crop[:2]


def test_photographs_may_be_given_as_files(tmp_path: Path, coordinate_image: Any) -> None:
    for name in ("b.png", "a.png"):
        write_image(tmp_path / name, coordinate_image(8, 8))
    source = photographs([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert [entry.lq.name for entry in source.entries] == ["b.png", "a.png"]
    with pytest.raises(ImageFileError, match=r"c\.png"):
        _only(photographs([tmp_path / "c.png"]))
    with pytest.raises(SampleError, match="no images"):
        photographs([])
    with pytest.raises(SampleError, match="sub"):
        photographs(tmp_path / "sub")


def test_a_damaged_file_is_named(tmp_path: Path, coordinate_image: Any) -> None:
    write_image(tmp_path / "a.png", coordinate_image(16, 16))
    (tmp_path / "b.png").write_bytes(b"")
    for source in (photographs(tmp_path), clean_folder(tmp_path, canvas=8, recipes=[("noise",)])):
        with pytest.raises(ImageFileError, match=r"b\.png"):
            source.list_specs(2, [("noise",)], default_rng(0))
