"""The constructor arguments that all environments share, and their checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from opera_env.data import Source
from opera_env.degradations import DegradationType
from opera_env.devices import resolve_device
from opera_env.errors import DeviceError, EnvArgumentError, did_you_mean
from opera_env.reward import Reward
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class EnvConfig:
    """Constructor arguments of every environment.

    Attributes:
        toolbox: The restoration tools: a toolbox, which is shared and not copied; the name of a shipped
            one; or a folder that ``Toolbox.save`` has written.
        reward: The name of a reward preset, or a reward of your own: a Reward, or its name as
            "module:attribute".
        source: The source of samples: a source, its name as "module:attribute", a folder of clean images,
            or None for the bundled images.
        recipes: The recipes of clean photographs: sequences of names, or texts such as "rain+noise" and
            the sets "A", "B", "C", "benchmark", "study" and "training"; see
            :func:`opera_env.degradations.parse_recipes`. None for those of the source.
        degradations: Degradations of your own for clean photographs, beside the built-in ones: objects, or
            "module:attribute". They and ``recipes`` cannot be combined with a source that is passed as an
            object or imported, because it has its own.
        trust_code: Whether to run what a toolbox folder names: code of your own, programs and served tools;
            see :meth:`opera_env.tools.Toolbox.load`.
        max_tools: Maximum number of tools in a plan, at least 1.
        obs_size: Height and width of image observations in pixels, at least 1.
        canvas: Side, in pixels, of the crops of the default source and of a folder, a multiple of 4; None
            for whole images. It has no effect on a source that is passed as an object.
        tool_cost: Cost of each applied tool, in units of R_q, subtracted from the reward; at least 0.
        device: Device of the tools and metrics, such as "cpu" or "cuda"; "auto" selects a GPU if there is
            one. It has no effect on a toolbox that is passed as an object.

    Raises:
        EnvArgumentError: If a value cannot be used, even one that has no effect.
    """

    toolbox: Toolbox | Path | str = "lite"
    reward: Reward | str = "lite"
    source: Source | Path | str | None = None
    max_tools: int = 6
    obs_size: int = 128
    canvas: int | None = 128
    tool_cost: float = 0.0
    device: str = "auto"
    recipes: str | Sequence[str | Sequence[str]] | None = None
    degradations: str | Sequence[DegradationType] | None = None
    trust_code: bool = False

    def __post_init__(self) -> None:
        check_argument(
            "toolbox",
            self.toolbox,
            isinstance(self.toolbox, Toolbox | Path) or _is_text(self.toolbox),
            "a Toolbox, the name of a shipped one, or a folder that Toolbox.save has written",
        )
        check_argument(
            "reward",
            self.reward,
            isinstance(self.reward, Reward) or _is_text(self.reward),
            "the name of a reward preset, or a Reward",
        )
        check_argument(
            "source",
            self.source,
            self.source is None or isinstance(self.source, Source | Path) or _is_text(self.source),
            "a source (opera_env.data.Source), its name as 'module:attribute', a folder, or None for the "
            "bundled images",
        )
        check_count("max_tools", self.max_tools)
        check_count("obs_size", self.obs_size)
        check_argument(
            "canvas",
            self.canvas,
            self.canvas is None or (_is_count(self.canvas) and self.canvas % 4 == 0),
            "a positive multiple of 4 (the side of the crops in pixels), or None for whole images",
        )
        check_argument(
            "tool_cost",
            self.tool_cost,
            _is_real(self.tool_cost) and math.isfinite(self.tool_cost) and self.tool_cost >= 0,
            "a finite number of at least 0, in units of R_q",
        )
        check_argument("trust_code", self.trust_code, isinstance(self.trust_code, bool), "True or False")
        for name in ("recipes", "degradations"):
            value = getattr(self, name)
            check_argument(
                name,
                value,
                value is None or _is_text(value) or (isinstance(value, list | tuple) and len(value) > 0),
                "a name, a list with at least one entry, or None",
            )
        try:
            resolve_device(self.device)
        except DeviceError as error:
            raise EnvArgumentError(f"device: {error}") from error


ConfigT = TypeVar("ConfigT", bound=EnvConfig)


def make_config(
    config_class: type[ConfigT], arguments: Mapping[str, Any], others: Iterable[str] = ()
) -> ConfigT:
    """Makes the configuration of an environment from keyword arguments.

    Args:
        config_class: The class of the configuration.
        arguments: The keyword arguments.
        others: Names of further arguments of the environment, for the error message.

    Raises:
        EnvArgumentError: If an argument is unknown or its value cannot be used.
    """
    known = [field.name for field in fields(config_class)]
    for name in arguments:
        if name not in known:
            known += others
            raise EnvArgumentError(
                f"expected arguments among {', '.join(known)}; found {name!r}.{did_you_mean(name, known)}"
            )
    return config_class(**arguments)


def check_argument(name: str, value: Any, usable: bool, expected: str) -> None:
    """Raises an EnvArgumentError that says what was expected if the value of an argument is not usable."""
    if not usable:
        raise EnvArgumentError(f"{name}: expected {expected}, found {value!r}.")


def check_count(name: str, value: Any) -> None:
    """Raises an EnvArgumentError if the value of an argument is not a whole number of at least 1."""
    check_argument(name, value, _is_count(value), "a whole number of at least 1")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
