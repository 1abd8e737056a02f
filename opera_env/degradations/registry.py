"""Which degradations exist, and how a list of them is applied to an image."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Degradation, DegradationType, Depth, Stage, Uint8Image
from opera_env.degradations.blur import DefocusBlur, MotionBlur
from opera_env.degradations.camera import Jpeg, LowLight, LowResolution, Noise
from opera_env.degradations.depth import resize_depth
from opera_env.degradations.weather import Haze, Rain
from opera_env.errors import SampleError, UnknownDegradationError, wrap_errors
from opera_env.imports import import_attribute

Recipe: TypeAlias = tuple[str, ...]
"""Names of degradations in the order in which they are applied."""

BuiltIn: TypeAlias = Rain | Haze | LowLight | MotionBlur | DefocusBlur | Noise | LowResolution | Jpeg

_CLASSES: tuple[type[BuiltIn], ...] = (
    Rain,
    Haze,
    LowLight,
    MotionBlur,
    DefocusBlur,
    Noise,
    LowResolution,
    Jpeg,
)

DEGRADATION_CLASSES: Mapping[str, DegradationType] = MappingProxyType({cls.name: cls for cls in _CLASSES})
"""The eight built-in degradations by name, in the order of their stages."""

DEGRADATIONS: tuple[str, ...] = tuple(DEGRADATION_CLASSES)
"""Names of the built-in degradations: the labels of samples and the order of outputs of trained agents."""


def merge_degradations(custom: Iterable[DegradationType] = ()) -> Mapping[str, DegradationType]:
    """Adds custom degradations to the built-in ones.

    Args:
        custom: Instances, or classes like the built-in ones. One with the name of a built-in degradation
            replaces it.

    Returns:
        The degradations by name, in the order of their stages; inside a stage the built-in ones come first.

    Raises:
        SampleError: If a custom degradation does not follow the protocol, or two have one name.
    """
    added: dict[str, DegradationType] = {}
    for degradation in custom:
        check_degradation(degradation)
        if degradation.name in added:
            raise SampleError(f"two degradations are called {degradation.name!r}: rename one of them.")
        added[degradation.name] = degradation
    merged = dict(DEGRADATION_CLASSES) | added
    return dict(sorted(merged.items(), key=lambda item: item[1].stage))


def load_degradations(name: str | Iterable[DegradationType] | None) -> tuple[DegradationType, ...]:
    """Imports custom degradations that a setting or a command line names.

    Args:
        name: "module:attribute" of one degradation or of several in a list or tuple; None for none; or
            degradations, which are checked and returned.

    Raises:
        SampleError: If the name cannot be imported, or is not the name of degradations.
    """
    if name is None:
        return ()
    if not isinstance(name, str):
        degradations = tuple(name)
        merge_degradations(degradations)
        return degradations
    try:
        attribute = import_attribute(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SampleError(
            f"degradations {name!r} cannot be imported: {error}. Expected module:attribute."
        ) from error
    degradations = tuple(attribute) if isinstance(attribute, list | tuple) else (attribute,)
    merge_degradations(degradations)
    return degradations


def check_degradation(degradation: DegradationType) -> None:
    """Checks that an object follows the protocol of :class:`~opera_env.degradations.Degradation`.

    Raises:
        SampleError: If a member is absent or unusable.
    """
    name = getattr(degradation, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise SampleError(
            f"{degradation!r}: expected a degradation whose name is an identifier such as "
            f"'salt_and_pepper', found {name!r}."
        )
    stage = getattr(degradation, "stage", None)
    if stage not in list(Stage):
        stages = ", ".join(f"Stage.{member.name}" for member in Stage)
        raise SampleError(f"degradation {name!r}: expected one of {stages} as its stage, found {stage!r}.")
    draw = getattr(degradation, "draw", None)
    if not callable(draw) or not callable(degradation):
        raise SampleError(
            f"degradation {name!r}: expected methods draw(rng) and __call__(image, rng, depth)."
        )
    if inspect.isclass(degradation) and inspect.isfunction(inspect.getattr_static(degradation, "draw")):
        raise SampleError(
            f"degradation {name!r} is a class whose method draw needs an instance: pass an instance, "
            f"{degradation.__name__}(...), or make draw a class method."
        )


def check_recipe(
    recipe: Sequence[str], degradations: Mapping[str, DegradationType] = DEGRADATION_CLASSES
) -> Recipe:
    """Checks that all degradations of a recipe are known, and returns the recipe as a tuple.

    Raises:
        UnknownDegradationError: If the recipe names a degradation that is not among the known ones.
    """
    for name in recipe:
        if name not in degradations:
            remedy = ", or add a custom one: clean_folder(folder, degradations=[...])"
            raise UnknownDegradationError(name, tuple(degradations), remedy)
    return tuple(recipe)


def degrade(
    image: Uint8Image,
    recipe: Sequence[str],
    rng: Generator,
    depth: Depth | None = None,
    degradations: Mapping[str, DegradationType] = DEGRADATION_CLASSES,
) -> tuple[Uint8Image, tuple[Degradation, ...]]:
    """Applies a recipe from left to right; the image is 8-bit after every degradation.

    Args:
        image: uint8 RGB (H, W, 3); H and W are multiples of 4 if the recipe has low resolution.
        recipe: Names of degradations, each of which is drawn and then applied.
        rng: The only source of randomness.
        depth: float32 (H, W) in [0, 1] for all degradations that use it, resampled where one has changed
            the size of the image; None where no depth map exists.
        degradations: The known degradations, as :func:`merge_degradations` returns them; the built-in
            ones by default.

    Returns:
        The degraded image, uint8 RGB (h, w, 3), and the degradations with the parameters drawn.

    Raises:
        UnknownDegradationError: If the recipe names an unknown degradation.
        SampleError: If a degradation raises, or returns anything but a uint8 RGB image of the same size or
            a whole number of times smaller.
    """
    applied: list[Degradation] = []
    for name in check_recipe(recipe, degradations):
        image = image.view()
        image.flags.writeable = False
        size = (image.shape[0], image.shape[1])
        with wrap_errors(SampleError, f"degradation {name!r}"):
            degradation = degradations[name].draw(rng)
            degraded = degradation(image, rng, None if depth is None else resize_depth(depth, size))
        _check_image(degraded, name, size)
        image = degraded
        applied.append(degradation)
    return image, tuple(applied)


def _check_image(image: Uint8Image, name: str, size: tuple[int, int]) -> None:
    """Raises :class:`SampleError` if the result of a degradation is not an image that fits its input."""
    if not isinstance(image, np.ndarray):
        found = type(image).__name__
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        found = f"{image.dtype} {image.shape}"
    else:
        _check_size(image, name, size)
        return
    raise SampleError(
        f"degradation {name!r}: expected a uint8 RGB image (H, W, 3), found {found}. "
        "Round and clip with opera_env.degradations.to_uint8."
    )


def _check_size(image: Uint8Image, name: str, size: tuple[int, int]) -> None:
    """Raises :class:`SampleError` unless an image is a whole number of times smaller, rounded."""
    height, width = image.shape[:2]
    factor = max(1, round(size[0] / height))
    if any(
        abs(before - factor * after) >= factor for before, after in zip(size, (height, width), strict=True)
    ):
        raise SampleError(
            f"degradation {name!r}: expected an image of {size[1]} x {size[0]} pixels, or a whole number "
            f"of times smaller, found {width} x {height}."
        )
