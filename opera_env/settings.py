"""Ranges of numeric settings, declared as the types of a configuration's fields.

Example:
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     steps: PositiveInt = 100
    ...     def __post_init__(self) -> None:
    ...         check_settings(self)
    >>> Config(steps=0)
    Traceback (most recent call last):
    ...
    opera_env.errors.SettingError: --steps 0: expected a number of at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from opera_env.errors import SettingError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Range:
    """The range of a setting, or of each number of a tuple.

    Attributes:
        low: Smallest value.
        high: Largest value.
        includes_low: Whether ``low`` itself is allowed.
        may_be_infinite: Whether infinity is allowed, for limits that one may do without.
    """

    low: float
    high: float = math.inf
    includes_low: bool = True
    may_be_infinite: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low <= value if self.includes_low else self.low < value) and value <= self.high

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"a number from {self.low:.15g} to {self.high:.15g}"
        return f"a number {'of at least' if self.includes_low else 'above'} {self.low:g}"


PositiveInt = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
PositiveFloat = Annotated[float, Range(0, includes_low=False)]
NonNegativeFloat = Annotated[float, Range(0)]
UpperBound = Annotated[float, Range(0, includes_low=False, may_be_infinite=True)]
Probability = Annotated[float, Range(0, 1)]


def check_multiple(name: str, value: int, factor: int) -> None:
    """Checks that a setting is a multiple of a number.

    Args:
        name: Name of the setting.
        value: Its value.
        factor: The number.

    Raises:
        SettingError: If it is not.
    """
    if value % factor:
        raise SettingError(name, value, f"a multiple of {factor}")


def check_settings(config: DataclassInstance) -> None:
    """Checks that the numbers of a configuration are in the ranges of their types, and finite by default.

    Args:
        config: A dataclass; its ``__post_init__`` calls this function.

    Raises:
        SettingError: If a number is not finite, or outside of its range.
    """
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        ranges = list(_find_ranges(hint))
        for value in _numbers(getattr(config, name)):
            is_infinite = value == math.inf and any(allowed.may_be_infinite for allowed in ranges)
            if not math.isfinite(value) and not is_infinite:
                raise SettingError(name, value, str(ranges[0]) if ranges else "a finite number")
            for allowed in ranges:
                if value not in allowed:
                    raise SettingError(name, value, str(allowed))


def _find_ranges(hint: Any) -> Iterator[Range]:
    """Yields the ranges in a type, such as ``Annotated[int, Range(1)] | None``."""
    for argument in get_args(hint):
        if isinstance(argument, Range):
            yield argument
        else:
            yield from _find_ranges(argument)


def _numbers(value: Any) -> Iterator[float]:
    """Yields the numbers in a value; switches and texts are none."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
