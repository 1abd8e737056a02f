"""Custom degradations: accepted as instances and classes, checked, ordered by stage and applied."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng

from opera_env.degradations import (
    DEGRADATION_CLASSES,
    DEGRADATIONS,
    Degradation,
    Stage,
    degrade,
    load_degradations,
    merge_degradations,
    training_recipes,
)
from opera_env.errors import SampleError, UnknownDegradationError
from tests.degradations.images import small_image
from tests.degradations.own import DepthFade, SaltAndPepper, Vignette

OWN = merge_degradations([SaltAndPepper(), Vignette, DepthFade])


def test_built_in_degradations_follow_the_protocol_of_own_ones() -> None:
    for name, degradation in DEGRADATION_CLASSES.items():
        drawn = degradation.draw(default_rng(0))
        assert isinstance(drawn, Degradation)
        assert drawn.name == name
        assert drawn.draw(default_rng(1)).name == name, "an instance draws others of its kind"


def test_own_degradations_come_after_the_built_in_ones_of_their_stage() -> None:
    assert tuple(merge_degradations()) == DEGRADATIONS
    assert tuple(OWN) == (
        *("rain", "haze", "low_light", "depth_fade"),
        *("motion_blur", "defocus_blur", "vignette"),
        *("noise", "low_resolution", "jpeg", "salt_and_pepper"),
    )


def test_an_own_degradation_replaces_the_built_in_one_of_its_name() -> None:
    own_noise = SaltAndPepper(0.5)
    own_noise.name = "noise"
    merged = merge_degradations([own_noise])
    assert tuple(merged) == DEGRADATIONS
    assert merged["noise"] is own_noise
    image = small_image(2)
    result, _ = degrade(image, ("noise",), default_rng(0), degradations=merged)
    changed = (result != image).any(axis=2)
    assert np.isin(result[changed], (0, 255)).all()


def test_own_degradations_can_be_given_by_a_generator() -> None:
    assert "vignette" in merge_degradations(degradation for degradation in [Vignette])


class Incomplete:
    """Has what the test gives it."""

    def __init__(self, **members: Any) -> None:
        vars(self).update(members)

    def __call__(self, image: Any, rng: Any, depth: Any = None) -> Any:
        return image


COMPLETE = {"name": "ghost", "stage": Stage.LENS, "draw": lambda rng: None}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"name": None}, "name is an identifier"),
        ({"name": "salt and pepper"}, "name is an identifier.*'salt and pepper'"),
        ({"name": "a+b"}, "name is an identifier"),
        ({"stage": None}, "'ghost': expected one of Stage.SCENE.*found None"),
        ({"stage": "lens"}, "'ghost': expected one of Stage.SCENE.*found 'lens'"),
        ({"stage": 7}, "found 7"),
        ({"draw": None}, "'ghost': expected methods draw"),
    ],
)
def test_an_object_without_the_protocol_is_refused(members: dict[str, Any], message: str) -> None:
    assert "ghost" in merge_degradations([Incomplete(**COMPLETE)])  # type: ignore[list-item]
    with pytest.raises(SampleError, match=message):
        merge_degradations([Incomplete(**COMPLETE | members)])  # type: ignore[list-item]


def test_a_class_that_draws_from_an_instance_is_refused_with_the_remedy() -> None:
    with pytest.raises(SampleError, match=r"pass an instance, SaltAndPepper\(\.\.\.\)"):
        merge_degradations([SaltAndPepper])


def test_two_degradations_of_one_name_are_refused() -> None:
    with pytest.raises(SampleError, match="two degradations are called 'vignette'"):
        merge_degradations([Vignette, Vignette(0.5)])


def test_training_recipes_of_an_own_set_follow_the_stages() -> None:
    recipes = training_recipes(degradations=[SaltAndPepper(), Vignette, DEGRADATION_CLASSES["rain"]])
    assert set(recipes) == {
        ("salt_and_pepper",),
        ("vignette",),
        ("rain",),
        ("vignette", "salt_and_pepper"),
        ("rain", "salt_and_pepper"),
        ("rain", "vignette"),
        ("rain", "vignette", "salt_and_pepper"),
    }
    assert len(training_recipes(1, OWN.values())) == 11


def test_recipes_mix_own_and_built_in_degradations() -> None:
    recipe = ("rain", "vignette", "salt_and_pepper", "jpeg")
    image = small_image(0)
    result, applied = degrade(image, recipe, default_rng(4), degradations=OWN)
    assert tuple(degradation.name for degradation in applied) == recipe
    again, _ = degrade(image, recipe, default_rng(4), degradations=pickle.loads(pickle.dumps(OWN)))
    assert np.array_equal(result, again)
    other_image, _ = degrade(image, recipe, default_rng(5), degradations=OWN)
    assert not np.array_equal(result, other_image)


def test_an_unknown_name_lists_own_degradations_too() -> None:
    with pytest.raises(UnknownDegradationError, match=r"'fog'.*vignette.*degradations="):
        degrade(small_image(0), ("fog",), default_rng(0), degradations=OWN)
    with pytest.raises(UnknownDegradationError, match="'vignette'"):
        degrade(small_image(0), ("vignette",), default_rng(0))


def test_every_degradation_receives_depth_of_the_size_of_its_image() -> None:
    image = small_image(0)
    depth = default_rng(1).random(image.shape[:2], np.float32)
    faded, _ = degrade(image, ("depth_fade",), default_rng(0), depth, OWN)
    assert np.array_equal(faded, np.rint(image * (1 - depth[..., None])).astype(np.uint8))
    small, _ = degrade(image, ("low_resolution", "depth_fade"), default_rng(0), depth, OWN)
    assert small.shape == (10, 12, 3) and small.any()
    without, _ = degrade(image, ("depth_fade",), default_rng(0), degradations=OWN)
    assert not without.any()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda image: image / 255, r"found float64 \(40, 48, 3\)"),
        (lambda image: image[..., 0], r"found uint8 \(40, 48\)"),
        (lambda image: image[:0], r"found uint8 \(0, 48, 3\)"),
        (lambda image: None, "found NoneType"),
        (lambda image: image.tolist(), "found list"),
    ],
)
def test_a_result_that_is_no_image_is_refused(returned: Any, message: str) -> None:
    class Broken(Vignette):
        name = "broken"

        @classmethod
        def draw(cls, rng: Any) -> Broken:
            return cls(0.5)

        def __call__(self, image: Any, rng: Any, depth: Any = None) -> Any:
            return returned(image)

    with pytest.raises(SampleError, match=rf"'broken': expected a uint8 RGB image.*{message}"):
        degrade(small_image(0), ("broken",), default_rng(0), degradations=merge_degradations([Broken]))


def test_the_clean_image_cannot_be_changed_by_a_degradation() -> None:
    class InPlace(Vignette):
        name = "in_place"

        @classmethod
        def draw(cls, rng: Any) -> InPlace:
            return cls(0.5)

        def __call__(self, image: Any, rng: Any, depth: Any = None) -> Any:
            image[:] = 0
            return image

    image = small_image(0)
    original = image.copy()
    with pytest.raises(SampleError, match=r"'in_place' raised ValueError: .*read-only"):
        degrade(image, ("in_place",), default_rng(0), degradations=merge_degradations([InPlace]))
    assert np.array_equal(image, original)
    assert image.flags.writeable


@pytest.mark.parametrize(
    ("name", "names"), [("OWN_DEGRADATIONS", ["salt_and_pepper", "vignette"]), ("Vignette", ["vignette"])]
)
def test_degradations_are_imported_by_name(name: str, names: list[str]) -> None:
    assert [
        degradation.name for degradation in load_degradations(f"tests.degradations.own:{name}")
    ] == names
    assert load_degradations(None) == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:OWN", "'no_such_module:OWN' cannot be imported"),
        ("math:nothing", "cannot be imported"),
        ("math", "cannot be imported"),
        ("math:pi", "name is an identifier"),
        ("tests.degradations.own:SaltAndPepper", "pass an instance"),
    ],
)
def test_a_name_that_stands_for_no_degradation_is_refused(name: str, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        load_degradations(name)


class Returns(SaltAndPepper):
    """A degradation that returns what it is given, or raises it."""

    name = "mine"

    def __init__(self, result: Any) -> None:
        self.result = result

    def draw(self, rng: Any) -> Returns:
        return self

    def __call__(self, image: Any, rng: Any, depth: Any = None) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "expected a uint8 RGB image .*, found NoneType"),
        (np.zeros((12, 20, 3), np.float32), r"expected a uint8 RGB image .*, found float32 \(12, 20, 3\)"),
        (np.zeros((12, 20), np.uint8), r"expected a uint8 RGB image .*, found uint8 \(12, 20\)"),
        (np.zeros((11, 20, 3), np.uint8), "expected an image of 20 x 12 pixels.*, found 20 x 11"),
        (np.zeros((24, 40, 3), np.uint8), "expected an image of 20 x 12 pixels.*, found 40 x 24"),
        (np.zeros((6, 5, 3), np.uint8), "a whole number of times smaller, found 5 x 6"),
        (ValueError("too dark."), "'mine' raised ValueError: too dark.$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_degradation_that_returns_no_fitting_image_is_named(result: Any, reason: str) -> None:
    image = np.zeros((12, 20, 3), np.uint8)
    with pytest.raises(SampleError, match=f"degradation 'mine'.*{reason}|degradation {reason}"):
        degrade(image, ("mine",), default_rng(0), degradations=merge_degradations([Returns(result)]))


@pytest.mark.parametrize("size", [(12, 20), (6, 10), (4, 6), (4, 7), (3, 5)])
def test_a_degradation_may_lower_the_resolution(size: tuple[int, int]) -> None:
    own = merge_degradations([Returns(np.zeros((*size, 3), np.uint8))])
    image, _ = degrade(np.zeros((12, 20, 3), np.uint8), ("mine",), default_rng(0), degradations=own)
    assert image.shape[:2] == size
