"""The training data of the pool ``real``: damage, its reference, and photographs with nothing to do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng
from skimage import data

from opera_env.tool_training import real_data
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.patches import training_pair
from opera_env.tool_training.real_data import RealDamage
from opera_env.tool_training.real_tools import REAL_TOOLS

PHOTOGRAPH = data.astronaut()[:96, 160:288].copy()
SAME_SIZE = [spec for spec in REAL_TOOLS if spec.training_data != real_data.SMALL]


def test_a_third_has_nothing_to_do_and_its_reference_is_the_picture_itself() -> None:
    """Half of these look damaged: the reference has the look too."""
    rng, plain, looks = default_rng(0), 0, 0
    for _ in range(300):
        degraded, reference = real_data.COMPRESSION(PHOTOGRAPH, rng)
        if np.array_equal(degraded, reference):
            plain += np.array_equal(reference, PHOTOGRAPH)
            looks += not np.array_equal(reference, PHOTOGRAPH)
        else:
            assert np.array_equal(reference, PHOTOGRAPH)
    assert 30 <= plain <= 70 and 30 <= looks <= 70


@pytest.mark.parametrize("spec", SAME_SIZE, ids=lambda spec: spec.name)
def test_damage_changes_the_photograph_and_keeps_its_size(spec: ToolSpec) -> None:
    damage = spec.training_data
    assert isinstance(damage, RealDamage)
    always = RealDamage(damage.draw, damage.followed_by, damage.chance, nothing_to_do=0)
    for seed in range(3):
        degraded, reference = always(PHOTOGRAPH, default_rng(seed))
        assert np.array_equal(reference, PHOTOGRAPH)
        assert degraded.shape == PHOTOGRAPH.shape and not np.array_equal(degraded, PHOTOGRAPH)


def test_small_photographs_have_a_quarter_of_the_size_and_always_something_to_do() -> None:
    assert {real_data.SMALL(PHOTOGRAPH, default_rng(seed))[0].shape for seed in range(8)} == {(24, 32, 3)}


def test_half_of_the_dark_photographs_are_noisy() -> None:
    def roughness(damage: RealDamage) -> float:
        """Mean difference of neighbours in a photograph that is grey everywhere."""
        grey = np.full((64, 64, 3), 128, np.uint8)
        darkened = [damage(grey, default_rng(seed))[0].astype(float) for seed in range(40)]
        return float(np.median([np.abs(np.diff(image, axis=0)).mean() for image in darkened]))

    dark = real_data.EXPOSURE.draw
    noisy = RealDamage(dark, real_data.NOISE.draw, chance=1, nothing_to_do=0)
    assert roughness(noisy) > 2 * roughness(RealDamage(dark, nothing_to_do=0))
    assert real_data.EXPOSURE.followed_by == real_data.NOISE.draw and real_data.EXPOSURE.chance == 0.5


def test_a_training_patch_has_the_look_of_its_reference() -> None:
    only_looks = RealDamage(real_data.NOISE.draw, nothing_to_do=1)
    differs = False
    for seed in range(12):
        degraded, reference = training_pair([PHOTOGRAPH], only_looks, 32, 16, default_rng(seed))
        _, clean = training_pair([PHOTOGRAPH], lambda image, rng: image, 32, 16, default_rng(seed))
        assert np.array_equal(degraded, reference) and degraded.shape == (32, 32, 3)
        differs = differs or not np.array_equal(reference, clean)
    assert differs
