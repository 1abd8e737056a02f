"""Training data: every number of degradations, clean photographs, enlarged copies, custom degradations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opera_agents.common.photographs import training_source
from opera_env.data.images import list_images, read_image
from opera_env.degradations import TRAINING_RECIPES
from tests.degradations.own import SaltAndPepper, Vignette


def test_frequencies_follow_the_weights(photos: Path) -> None:
    source = training_source(photos, 64, clean_weight=1.5)
    rng = np.random.default_rng(0)
    lengths = [len(source.draw(rng).recipe) for _ in range(600)]
    shares = np.bincount(lengths, minlength=4) / len(lengths)
    assert shares == pytest.approx(np.array([1.5, 1, 3, 5]) / 10.5, abs=0.06)


def test_clean_sample_equals_its_reference(photos: Path) -> None:
    source = training_source(photos, 64)
    rng = np.random.default_rng(1)
    clean = next(spec for spec in (source.draw(rng) for _ in range(200)) if not spec.recipe)
    sample = source.make(clean)
    assert sample.degradations == frozenset() and sample.reference is not None
    assert (sample.lq == sample.reference).all()


def test_enlarged_copies_are_larger_and_softer(photos: Path, tmp_path: Path) -> None:
    source = training_source(photos, 64, tmp_path / "large")
    (large,) = list_images(tmp_path / "large")
    assert len(source) == 4
    small = read_image(list_images(photos)[0])
    pixels = read_image(large)
    assert 1.35 < pixels.shape[0] / small.shape[0] < 2.05
    roughness = [np.abs(np.diff(image.astype(float), axis=0)).mean() for image in (small, pixels)]
    assert roughness[1] < 0.8 * roughness[0]


def test_enlarged_copies_are_written_once_and_are_reproducible(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "a"):
        training_source(photos, 64, tmp_path / name)
    (first,), (second,) = (list_images(tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    before = first.stat().st_mtime_ns
    training_source(photos, 64, tmp_path / "a")
    assert first.stat().st_mtime_ns == before


def test_own_degradations_are_drawn_beside_the_built_in_ones(photos: Path) -> None:
    assert training_source(photos, 64).recipes == (*TRAINING_RECIPES, ())
    source = training_source(photos, 64, degradations=[SaltAndPepper(), Vignette])
    assert {"vignette", "salt_and_pepper"} < set(source.degradations)
    assert set(TRAINING_RECIPES) < set(source.recipes)
    rng = np.random.default_rng(0)
    drawn = {name for _ in range(200) for name in source.draw(rng).recipe}
    assert drawn == set(source.degradations)
