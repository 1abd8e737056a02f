"""Training data: every number of degradations, clean photographs, enlarged copies, custom degradations."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opera_agents.common.photographs import check_photographs, training_source
from opera_env.data.images import list_images, read_image
from opera_env.degradations import TRAINING_RECIPES, benchmark_recipes
from opera_env.errors import SampleError
from tests.degradations.own import SaltAndPepper, Vignette

MakePhotograph = Callable[[int, int, int], Image.Image]


def test_frequencies_follow_the_weights(photos: Path) -> None:
    source = training_source([photos], 64, clean_weight=1.5)
    rng = np.random.default_rng(0)
    lengths = [len(source.draw(rng).recipe) for _ in range(600)]
    shares = np.bincount(lengths, minlength=4) / len(lengths)
    assert shares == pytest.approx(np.array([1.5, 1, 3, 5]) / 10.5, abs=0.06)


def test_combinations_of_the_benchmark_are_the_given_fraction(photos: Path) -> None:
    source = training_source([photos], 64, benchmark_fraction=0.5)
    rng = np.random.default_rng(0)
    recipes = [recipe for _ in range(600) if len(recipe := source.draw(rng).recipe) > 1]
    share = np.mean([recipe in benchmark_recipes() for recipe in recipes])
    assert share == pytest.approx(0.5 + 0.5 * 18 / 137, abs=0.06), "some plausible ones are the benchmark's"
    assert ("motion_blur", "low_light") in recipes, "an order that only the benchmark has"
    assert (
        training_source([photos], 64, degradations=[Vignette], benchmark_fraction=0.5).recipes.count(
            ("rain", "haze")
        )
        == 1
    ), "with custom degradations, the combinations are not the benchmark's"


def test_clean_sample_equals_its_reference(photos: Path) -> None:
    source = training_source([photos], 64)
    rng = np.random.default_rng(1)
    clean = next(spec for spec in (source.draw(rng) for _ in range(200)) if not spec.recipe)
    sample = source.make(clean)
    assert sample.degradations == frozenset() and sample.reference is not None
    assert (sample.lq == sample.reference).all()


def test_enlarged_copies_are_larger_and_softer(photos: Path, tmp_path: Path) -> None:
    source = training_source([photos], 64, tmp_path / "large")
    (large,) = list_images(tmp_path / "large")
    assert len(source) == 4
    small = read_image(list_images(photos)[0])
    pixels = read_image(large)
    assert 1.35 < pixels.shape[0] / small.shape[0] < 2.05
    roughness = [np.abs(np.diff(image.astype(float), axis=0)).mean() for image in (small, pixels)]
    assert roughness[1] < 0.8 * roughness[0]


def test_enlarged_copies_are_written_once_and_are_reproducible(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "a"):
        training_source([photos], 64, tmp_path / name)
    (first,), (second,) = (list_images(tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    before = first.stat().st_mtime_ns
    training_source([photos], 64, tmp_path / "a")
    assert first.stat().st_mtime_ns == before


def test_own_degradations_are_drawn_beside_the_built_in_ones(photos: Path) -> None:
    assert training_source([photos], 64).recipes == (*TRAINING_RECIPES, ())
    source = training_source([photos], 64, degradations=[SaltAndPepper(), Vignette])
    assert {"vignette", "salt_and_pepper"} < set(source.degradations)
    assert set(TRAINING_RECIPES) < set(source.recipes)
    rng = np.random.default_rng(0)
    drawn = {name for _ in range(200) for name in source.draw(rng).recipe}
    assert drawn == set(source.degradations)


@pytest.fixture
def folders(photos: Path, make_photograph: MakePhotograph, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders whose names end alike, with photographs 0.png to 2.png; the second has larger ones."""
    small = Path(shutil.copytree(photos, tmp_path / "a" / "train"))
    large = tmp_path / "b" / "train"
    large.mkdir(parents=True)
    for seed in range(3):
        make_photograph(144, 132, seed).save(large / f"{seed}.png")
    return small, large


def test_specifications_name_the_folder_and_are_made_again(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    source = training_source(folders, 64, tmp_path / "enlarged")
    assert len(source) == 2 * (3 + 1) and source.name == "a/train+b/train"
    rng = np.random.default_rng(0)
    specs = {spec.image: spec for spec in (source.draw(rng) for _ in range(100))}
    assert set(specs) == {
        f"{folder}/train/{name}"
        for folder in "ab"
        for name in ("0.png", "1.png", "2.png", "enlarged/0.png")
    }
    again = training_source(folders, 64, tmp_path / "enlarged")
    for name, spec in specs.items():
        sample = again.make(spec)
        assert sample.spec == spec
        assert (sample.lq == source.make(spec).lq).all(), name
    with pytest.raises(SampleError, match=r"a/train\+b/train"):
        training_source(folders[:1], 64).make(specs["a/train/0.png"])


def test_temporary_files_beside_enlarged_copies_are_removed(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    training_source(folders, 64, tmp_path / "enlarged")
    leftover = tmp_path / "enlarged" / "a" / "train" / f".{0:032x}.part"
    leftover.touch()
    os.utime(leftover, (0, 0))  # it is over a day old
    training_source(folders, 64, tmp_path / "enlarged")
    assert [path.name for path in leftover.parent.iterdir()] == ["0.png"]


def test_one_folder_alone_keeps_the_names_of_its_files(photos: Path, tmp_path: Path) -> None:
    source = training_source([photos], 64, tmp_path / "large")
    images = {source.draw(np.random.default_rng(seed)).image for seed in range(50)}
    assert source.name == photos.name and images == {"0.png", "1.png", "2.png"}


def test_folders_are_used_for_the_crops_that_all_their_photographs_have(
    folders: tuple[Path, Path],
) -> None:
    assert len(training_source(folders, 64)) == 6
    assert len(training_source(folders, 128)) == 3
    check_photographs(folders, [64, 128])
    with pytest.raises(SampleError, match=r"a/train/1\.png: .* at least 80 pixels.*found 75: .*--canvas"):
        check_photographs(folders, [80])
    with pytest.raises(SampleError, match=r"crops of 136 pixels.* found 132 in .*b/train.*--crop-sizes"):
        check_photographs(folders, [64, 136], "--crop-sizes")


def test_folders_that_cannot_be_told_apart_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(folders[1], tmp_path / "c" / "a" / "train"))
    with pytest.raises(SampleError, match="both known as a/train: rename one"):
        training_source([folders[0], other], 64)
    with pytest.raises(SampleError, match="name one or several"):
        training_source([], 64)
    assert len(training_source([folders[0], folders[0]], 64)) == 3
