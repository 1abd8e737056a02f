"""Folders of photographs with real damage, as the settings of trainers name them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from opera_agents.common.folders import (
    all_degradations,
    check_validation,
    identify_photographs,
    is_real,
    load_custom_degradations,
    photographs_name,
    plain_folders,
    validation_samples,
)
from opera_agents.common.photographs import check_photographs, training_source
from opera_env.data import RealSource
from opera_env.degradations import DEGRADATIONS
from opera_env.degradations.real import REAL_DEGRADATIONS, REAL_LABELS
from opera_env.errors import SampleError


@pytest.fixture
def real(photos: Path) -> Path:
    return Path(f"real:{photos}")


def test_a_prefix_names_the_world_of_samples(photos: Path, real: Path) -> None:
    assert is_real([real]) and not is_real([photos]) and not is_real([])
    assert plain_folders([real, photos][:1]) == [photos] == plain_folders([photos])
    assert photographs_name(real) == f"real:{photographs_name(photos)}"
    with pytest.raises(SampleError, match=r"all folders as real:FOLDER or none"):
        is_real([real, photos])


def test_a_folder_has_another_identity_with_real_damage(photos: Path, real: Path) -> None:
    plain, damaged = identify_photographs(photos), identify_photographs(real)
    assert damaged["content"] == f"real:{plain['content']}"


def test_validation_has_the_damage_of_the_training(photos: Path, real: Path) -> None:
    check_validation([real], real)
    check_validation([photos], photos)
    with pytest.raises(SampleError, match="expected --val real:FOLDER, as --images"):
        check_validation([real], photos)
    with pytest.raises(SampleError, match="expected --val FOLDER, as --images"):
        check_validation([photos], real)


def test_real_damage_has_labels_of_its_own_and_no_others(photos: Path, real: Path) -> None:
    assert tuple(all_degradations([photos])) == DEGRADATIONS
    found = all_degradations([real])
    assert tuple(found) == REAL_LABELS and set(found.values()) == set(REAL_DEGRADATIONS)
    with pytest.raises(SampleError, match=r"has degradations of its own, found --degradations"):
        load_custom_degradations([real], "tests.degradations.own:OWN_DEGRADATIONS")


def test_training_samples_follow_the_rule_of_real_damage(real: Path, tmp_path: Path) -> None:
    check_photographs([real], [64])
    source = training_source([real], 64, tmp_path / "enlarged", clean_weight=0)
    assert isinstance(source, RealSource) and len(source) == 4, "one photograph of three is enlarged too"
    rng = np.random.default_rng(0)
    specs = [source.draw(rng) for _ in range(120)]
    assert 0.2 < np.mean([not spec.recipe for spec in specs]) < 0.47, "a third has nothing to do"
    assert {name for spec in specs for name in spec.recipe} <= set(REAL_LABELS)
    assert source.make(specs[0]).canvas == (64, 64)


def test_samples_of_several_folders_name_their_folder(photos: Path, real: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "more" / "photos")
    source = training_source([real, Path(f"real:{tmp_path}/more/photos")], 64)
    rng = np.random.default_rng(0)
    folders = {source.draw(rng).image.rpartition("/")[0] for _ in range(40)}
    assert folders == {photographs_name(photos), "more/photos"}
    assert source.name == f"real:{photographs_name(photos)}+more/photos"


def test_given_recipes_replace_the_rule(real: Path) -> None:
    source = training_source([real], 64, recipes=[("over_processed",), ("noise",)])
    rng = np.random.default_rng(0)
    assert {source.draw(rng).recipe for _ in range(20)} == {("over_processed",), ("noise",)}


def test_validation_samples_are_always_the_same(photos: Path, real: Path) -> None:
    first, second = (validation_samples(real, 64, 9) for _ in range(2))
    assert [sample.key for sample in first] == [sample.key for sample in second]
    assert sum(not sample.spec.recipe for sample in first) == 3
    assert {sample.spec.source for sample in validation_samples(photos, 64, 2)} == {photos.name}
