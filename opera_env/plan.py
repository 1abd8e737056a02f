"""Plans, and the arrays that stand for them in an action space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opera_env.errors import PlanParseError, UnknownToolError
from opera_env.types import Plan

STOP = 0
"""The action that ends a plan; tool ``names[i]`` is action i + 1."""


@dataclass(frozen=True)
class PlanCodec:
    """Translates plans to and from ``MultiDiscrete([N + 1] * max_tools)``.

    Attributes:
        names: The tools in the order of the toolbox.
        max_tools: Longest plan.

    Example:
        >>> codec = PlanCodec(("denoise", "dehaze"), max_tools=4)
        >>> codec.encode(("dehaze", "dehaze")).tolist()
        [2, 2, 0, 0]
        >>> codec.decode([1, 0, 2, 2])
        ('denoise',)
    """

    names: Plan
    max_tools: int

    def encode(self, plan: Sequence[str]) -> NDArray[np.int64]:
        """Returns the action of a plan, int64 (max_tools,), padded with STOP.

        Raises:
            UnknownToolError: If a name is not among the tools.
            PlanParseError: If the plan is too long.
        """
        if len(plan) > self.max_tools:
            raise PlanParseError(f"a plan of {len(plan)} tools, but at most {self.max_tools} are allowed.")
        action = np.full(self.max_tools, STOP, np.int64)
        for position, name in enumerate(plan):
            action[position] = self.index(name)
        return action

    def index(self, name: str) -> int:
        """Returns the action that applies a tool."""
        try:
            return self.names.index(name) + 1
        except ValueError:
            raise UnknownToolError(name, self.names) from None

    def decode(self, action: ArrayLike) -> Plan:
        """Returns the plan of an action; what follows the first STOP is ignored.

        Raises:
            PlanParseError: If it is no array of ``max_tools`` whole numbers in [0, N].
        """
        array = _array(action)
        if array.shape != (self.max_tools,):
            raise PlanParseError(f"expected an action of shape ({self.max_tools},), found {array.shape}.")
        numbers = [self._number(value) for value in array]
        stop = numbers.index(STOP) if STOP in numbers else len(numbers)
        return tuple(self.names[number - 1] for number in numbers[:stop])

    def decode_tool(self, action: ArrayLike) -> Plan:
        """Returns the plan of a single stepwise action: one tool, or ``()`` for STOP.

        Raises:
            PlanParseError: If it is no whole number in [0, N].
        """
        array = _array(action)
        if array.size != 1:
            raise PlanParseError(f"expected a single number, found an array of shape {array.shape}.")
        number = self._number(array.reshape(-1)[0])
        return () if number == STOP else (self.names[number - 1],)

    def _number(self, value: object) -> int:
        if not isinstance(value, np.integer) or not 0 <= value <= len(self.names):
            raise PlanParseError(f"expected whole numbers from 0 to {len(self.names)}, found {value!r}.")
        return int(value)


def _array(action: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(action)
    except ValueError as error:
        raise PlanParseError(f"expected an array of whole numbers, found {action!r}.") from error


def parse_plan(text: str, known: Iterable[str]) -> Plan:
    """Reads ``"a, b"`` as a plan; empty text is the empty plan.

    Raises:
        UnknownToolError: If a name is not known.
        PlanParseError: If there is nothing between two commas.

    Example:
        >>> parse_plan("denoise, dehaze", ("dehaze", "denoise"))
        ('denoise', 'dehaze')
    """
    known = tuple(known)
    if not text.strip():
        return ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not name:
            raise PlanParseError(f"no tool between two commas in {text!r}.")
        if name not in known:
            raise UnknownToolError(name, known)
    return names
