"""Reading JSON that others may have written: size and depth are bounded, and every value is checked."""

from __future__ import annotations

import json
import math
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from opera_env.errors import OperaError

MAX_BYTES = 4 * 2**20
"""Largest file that is read, in bytes: many times the largest manifest or card."""
MAX_NAMES = 1024
"""Largest number of names in a list, such as the tools of an agent: networks have outputs for each."""

_REQUIRED: Any = object()


class JsonObject:
    """An object of a JSON document, whose values are read by key with a check of their type and range.

    Methods take a ``default`` for keys that may be absent. Keys that are never asked for are ignored.

    Args:
        data: The object.
        label: The file and the place in it, with which messages begin.
        error: Class of the errors that are raised.
        remedy: How to correct the file, with which messages end.

    Raises:
        OperaError: Of the class ``error``, if the data is not a JSON object.

    Example:
        >>> from opera_env.errors import ToolboxError
        >>> card = JsonObject({"tools": ["a"], "scale": "4"}, "card.json", ToolboxError, "Write it again.")
        >>> card.names("tools")
        ('a',)
        >>> card.integer("scale", 1, 16)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        opera_env.errors.ToolboxError: card.json: expected 'scale' to be ..., found '4'. Write it again.
    """

    def __init__(self, data: Any, label: str, error: Callable[[str], OperaError], remedy: str) -> None:
        self.label = label
        self._error = error
        self._remedy = remedy
        if not isinstance(data, Mapping):
            self.fail(f"expected an object, found {reprlib.repr(data)}")
        self.data: Mapping[str, Any] = data

    def fail(self, reason: str) -> NoReturn:
        """Raises the error of this document with a reason: what was expected and what was found."""
        raise self._error(f"{self.label}: {reason}. {self._remedy}")

    def _read(self, key: str, default: Any, expected: str, is_valid: Callable[[Any], bool]) -> Any:
        if key not in self.data:
            if default is _REQUIRED:
                self.fail(f"expected the key {key!r} ({expected}), found {reprlib.repr(list(self.data))}")
            return default
        value = self.data[key]
        if not is_valid(value):
            self.fail(f"expected {key!r} to be {expected}, found {reprlib.repr(value)}")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        return self._read(key, default, "a text", lambda value: isinstance(value, str))

    def integer(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        return self._read(
            key,
            default,
            f"a whole number from {low} to {high}",
            lambda value: type(value) is int and low <= value <= high,
        )

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        return self._read(key, default, "a number", _is_number)

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        return self._read(key, default, "true or false", lambda value: isinstance(value, bool))

    def names(self, key: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        return tuple(self._read(key, default, f"a list of at most {MAX_NAMES} names", _are_names))

    def probabilities(self, key: str, count: int) -> tuple[float, ...]:
        return tuple(
            self._read(
                key,
                _REQUIRED,
                f"{count} numbers from 0 to 1",
                lambda value: (
                    isinstance(value, list) and len(value) == count and all(map(_is_probability, value))
                ),
            )
        )

    def mapping(self, key: str, default: Any = _REQUIRED) -> dict[str, Any]:
        return dict(self._read(key, default, "an object", lambda value: isinstance(value, Mapping)))

    def object(self, key: str) -> JsonObject:
        return JsonObject(self.mapping(key), f"{self.label}: {key}", self._error, self._remedy)

    def objects(self, key: str, largest: int) -> list[JsonObject]:
        rows = self._read(
            key,
            _REQUIRED,
            f"a list of at most {largest} objects",
            lambda value: isinstance(value, list) and len(value) <= largest,
        )
        return [
            JsonObject(row, f"{self.label}: {key}[{index}]", self._error, self._remedy)
            for index, row in enumerate(rows)
        ]


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)


def _is_probability(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= MAX_NAMES and all(isinstance(name, str) for name in value)
    )


def read_object(path: Path, error: Callable[[str], OperaError], remedy: str) -> JsonObject:
    """Reads a JSON file that holds an object.

    Args:
        path: The file.
        error: Class of the errors that are raised, here and by the object.
        remedy: How to correct the file, a sentence.

    Raises:
        OperaError: Of the class ``error``, if the file cannot be read, is too large, is not JSON, is nested
            too deeply, or holds a number that is not finite.
        FileNotFoundError: If there is no such file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as os_error:
        raise error(f"{path}: cannot be read: {os_error.strerror}. {remedy}") from os_error
    if len(data) > MAX_BYTES:
        raise error(f"{path}: expected at most {MAX_BYTES:,} bytes, found more. {remedy}")
    return parse_object(data, str(path), error, remedy)


def parse_object(
    data: str | bytes, label: str, error: Callable[[str], OperaError], remedy: str
) -> JsonObject:
    """Reads a JSON object from memory; the arguments are those of :class:`JsonObject`.

    Raises:
        OperaError: Of the class ``error``, as :func:`read_object` raises it.
    """
    try:
        value = json.loads(data, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as json_error:
        reason = "it is nested too deeply" if isinstance(json_error, RecursionError) else str(json_error)
        raise error(f"{label}: expected JSON, found something else ({reason}). {remedy}") from json_error
    return JsonObject(value, label, error, remedy)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
