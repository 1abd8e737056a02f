"""The options of ``reset``: a sample to start from, or a recipe for the samples that are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opera_env.data import Source
from opera_env.degradations import Recipe, parse_recipes
from opera_env.envs.config import check_argument
from opera_env.errors import EnvArgumentError, SampleError, did_you_mean
from opera_env.types import Sample, SampleSpec

RESET_OPTIONS = ("sample", "recipe")
"""Names of the options of ``reset``."""


def check_options(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Returns the options of ``reset``, an empty dictionary for None.

    Raises:
        EnvArgumentError: If they are not a dictionary, if there is an option of another name, or if there
            is a sample as well as a recipe.
    """
    check_argument(
        "options", options, options is None or isinstance(options, Mapping), "a dictionary, or None"
    )
    for name in options or {}:
        if name not in RESET_OPTIONS:
            raise EnvArgumentError(
                f"reset: expected options with the key {' or '.join(map(repr, RESET_OPTIONS))}, found "
                f"{name!r}.{did_you_mean(str(name), RESET_OPTIONS)}"
            )
    if options and options.get("sample") is not None and options.get("recipe") is not None:
        raise EnvArgumentError(
            "reset: expected the option 'sample' or 'recipe', found both: a sample has its recipe."
        )
    return options or {}


def chosen_sample(source: Source, options: Mapping[str, Any]) -> Sample | None:
    """Makes the sample of ``options["sample"]``; None if the options name no sample.

    Args:
        source: Makes the sample.
        options: The value of "sample" is a :class:`SampleSpec`, its JSON, or a :class:`Sample`.

    Raises:
        SampleError: If it is none of these, or the source cannot make the sample.
    """
    spec = options.get("sample")
    if spec is None or isinstance(spec, Sample):
        return spec
    if isinstance(spec, dict):
        spec = SampleSpec.from_json(spec)
    if not isinstance(spec, SampleSpec):
        raise SampleError(f"expected options['sample'] to be a SampleSpec or its JSON, found {spec!r}.")
    return source.make(spec)


def chosen_recipe(options: Mapping[str, Any]) -> Recipe | None:
    """Returns the recipe of ``options["recipe"]``, names or a text such as "rain+noise"; or None.

    Raises:
        SampleError: If it is not one recipe.
    """
    recipe = options.get("recipe")
    if recipe is None:
        return None
    recipes = parse_recipes([recipe])
    if len(recipes) != 1:
        raise SampleError(f"expected options['recipe'] to be one recipe, found {recipe!r}.")
    return recipes[0]
