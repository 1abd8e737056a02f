"""Conversion of plans to and from the arrays of an action space, and from text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opera_env.errors import PlanParseError, UnknownToolError
from opera_env.types import Plan

STOP = 0
"""The action that ends a plan. Tool ``names[i]`` is action i + 1."""


@dataclass(frozen=True)
class PlanCodec:
    """Converts plans to and from actions of ``MultiDiscrete([N + 1] * max_tools)``.

    Attributes:
        names: The tools in the order of the toolbox.
        max_tools: Maximum number of tools in a plan.

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
            UnknownToolError: If a name is not the name of a tool.
            PlanParseError: If the plan has more than ``max_tools`` tools.
        """
        if len(plan) > self.max_tools:
            raise PlanParseError(f"expected a plan of at most {self.max_tools} tools, found {len(plan)}.")
        action = np.full(self.max_tools, STOP, np.int64)
        for position, name in enumerate(plan):
            action[position] = self.index(name)
        return action

    def index(self, name: str) -> int:
        """Returns the number of a tool in the action space, from 1 to N.

        Raises:
            UnknownToolError: If there is no tool of that name.
        """
        try:
            return self.names.index(name) + 1
        except ValueError:
            raise UnknownToolError(name, self.names) from None

    def decode(self, action: ArrayLike) -> Plan:
        """Returns the plan of an action. Entries after the first STOP are ignored.

        Raises:
            PlanParseError: If the action is not an array of ``max_tools`` integers in [0, N].
        """
        array = _to_array(action)
        if array.shape != (self.max_tools,):
            raise PlanParseError(f"expected an action of shape ({self.max_tools},), found {array.shape}.")
        actions = [self._check_action(value) for value in array]
        stop = actions.index(STOP) if STOP in actions else len(actions)
        return tuple(self.names[number - 1] for number in actions[:stop])

    def decode_tool(self, action: ArrayLike) -> Plan:
        """Returns the plan of one stepwise action: one tool, or ``()`` for STOP.

        Raises:
            PlanParseError: If the action is not an integer in [0, N].
        """
        array = _to_array(action)
        if array.size != 1:
            raise PlanParseError(f"expected a single integer, found an array of shape {array.shape}.")
        number = self._check_action(array.reshape(-1)[0])
        return () if number == STOP else (self.names[number - 1],)

    def _check_action(self, value: object) -> int:
        if not isinstance(value, np.integer) or not 0 <= value <= len(self.names):
            raise PlanParseError(f"expected integers from 0 to {len(self.names)}, found {value!r}.")
        return int(value)


def _to_array(action: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(action)
    except ValueError as error:
        raise PlanParseError(f"expected an array of integers, found {action!r}.") from error


def parse_plan(text: str, tool_names: Iterable[str]) -> Plan:
    """Parses the text ``"a, b"`` as a plan. Empty text is the empty plan.

    Args:
        text: Names of tools, separated by commas.
        tool_names: Names of the tools that a plan may have.

    Raises:
        UnknownToolError: If a name is not in ``tool_names``.
        PlanParseError: If there is no name between two commas.

    Example:
        >>> parse_plan("denoise, dehaze", ("dehaze", "denoise"))
        ('denoise', 'dehaze')
    """
    tool_names = tuple(tool_names)
    if not text.strip():
        return ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not name:
            raise PlanParseError(f"expected the name of a tool between two commas, found none in {text!r}.")
        if name not in tool_names:
            raise UnknownToolError(name, tool_names)
    return names
