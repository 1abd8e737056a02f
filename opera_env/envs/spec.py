"""Specifications of environments: they name the tools, and the same environment is made of them again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import EnvSpec

from opera_env.devices import resolve_device
from opera_env.envs.config import EnvConfig
from opera_env.errors import EnvArgumentError, ToolboxMismatchError
from opera_env.tools import Toolbox

_REFERENCE = re.compile(r"(.+)@([0-9a-f]{16})", re.DOTALL)
"""Name of a toolbox and its fingerprint, as specifications in JSON have them."""

_REMEDIES = {
    "reward": "pass the name of a preset, or your reward's name as 'module:attribute'",
    "source": "pass a folder, or your source's name as 'module:attribute'",
    "degradations": "pass their name as 'module:attribute'",
}


class SharedObject:
    """An object in the keyword arguments of a specification.

    Gymnasium copies specifications; copies of this refer to the same object. An environment that is made
    of the specification thus shares the tools, as the first one does.

    Args:
        value: The object.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedObject:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedObject) and self.value is other.value

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return repr(self.value)


class ToolboxName(str):
    """The name of a toolbox in the keyword arguments of a specification, which knows the loaded tools.

    Attributes:
        toolbox: The tools of the environment, which may have been trained since.
    """

    toolbox: Toolbox

    def __new__(cls, name: str, toolbox: Toolbox) -> ToolboxName:
        self = super().__new__(cls, name)
        self.toolbox = toolbox
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ToolboxName:
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return ToolboxName, (str(self), self.toolbox)


class RestoreSpec(EnvSpec):
    """The specification of an environment, a :class:`gymnasium.envs.registration.EnvSpec`.

    ``gym.make(env.spec)`` makes the environment again: with the same toolbox, if it was passed as an
    object, and otherwise with the tools of the same name, if they still are those of the environment.
    """

    def to_json(self) -> str:
        """Returns the specification as JSON, from which ``EnvSpec.from_json`` makes it again.

        Raises:
            ToolboxMismatchError: If no folder holds the tools of the environment.
            EnvArgumentError: If another argument was passed as an object.
        """
        plain = {name: _to_json(name, value) for name, value in self.kwargs.items()}
        return EnvSpec(**_arguments(self, plain)).to_json()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnvSpec) and all(
            getattr(self, field.name) == getattr(other, field.name) for field in fields(self)
        )


def restore_spec(spec: EnvSpec, config: EnvConfig, toolbox: Toolbox) -> RestoreSpec:
    """Makes a specification that refers to the tools of its environment.

    Args:
        spec: The specification that Gymnasium has made.
        config: The constructor arguments of the environment.
        toolbox: The tools of the environment.
    """
    kwargs = dict(spec.kwargs)
    for name in ("reward", "source", "degradations"):
        value = kwargs.get(name)
        if not isinstance(value, str | Path | SharedObject | None):
            kwargs[name] = SharedObject(value)
    if isinstance(config.toolbox, Toolbox):
        kwargs["toolbox"] = SharedObject(toolbox)
    else:
        kwargs["toolbox"] = ToolboxName(split_reference(config.toolbox)[0], toolbox)
    return RestoreSpec(**_arguments(spec, kwargs))


def _arguments(spec: EnvSpec, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of the constructor of a specification with other keyword arguments."""
    arguments: dict[str, Any] = {
        field.name: getattr(spec, field.name) for field in fields(spec) if field.init
    }
    arguments["kwargs"] = kwargs
    return arguments


def resolve_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns keyword arguments with the objects and names to which those of a specification refer.

    Raises:
        ToolboxMismatchError: If the tools of the environment were trained, and no folder holds them.
    """
    resolved = dict(arguments)
    for name, value in arguments.items():
        if isinstance(value, SharedObject):
            resolved[name] = value.value
        elif isinstance(value, ToolboxName):
            resolved[name] = toolbox_reference(value.toolbox)
    return resolved


def toolbox_reference(toolbox: Toolbox) -> str:
    """Returns the name and the fingerprint of tools, ``NAME@FINGERPRINT``, for another process.

    Raises:
        ToolboxMismatchError: If no name leads to the tools, because they were put together or trained here.
    """
    if toolbox.origin is None:
        raise ToolboxMismatchError(
            "the tools of this environment were passed as an object that no folder holds as it is: save "
            "them with env.unwrapped.toolbox.save(FOLDER); the specification then names the folder."
        )
    name, is_current = toolbox.origin
    if not is_current:
        raise ToolboxMismatchError(
            f"the tools of this environment were loaded from {name!r} and have changed since: save them "
            "with env.unwrapped.toolbox.save(FOLDER), after which the specification names the folder, or "
            f"pass toolbox={name!r} for the tools as they were."
        )
    return f"{name}@{toolbox.fingerprint}"


def split_reference(name: str | Path) -> tuple[str, str | None]:
    """Returns the name and the fingerprint of ``NAME@FINGERPRINT``; None if there is no fingerprint."""
    match = _REFERENCE.fullmatch(str(name))
    if match is None or Path(name).exists():
        return str(name), None
    return match[1], match[2]


def load_named_toolbox(config: EnvConfig) -> Toolbox:
    """Loads the toolbox that a configuration names, and checks its fingerprint if the name has one.

    Raises:
        ToolboxMismatchError: If the tools of this name are others than those of the specification.
        ToolboxError: If there is no such toolbox, or it cannot be loaded.
    """
    assert isinstance(config.toolbox, str | Path)
    name, expected = split_reference(config.toolbox)
    toolbox = Toolbox.load(name, resolve_device(config.device), config.trust_code)
    if expected is not None and toolbox.fingerprint != expected:
        raise ToolboxMismatchError(
            f"the specification was made of tools with the fingerprint {expected}, and {name!r} now has "
            f"{toolbox.fingerprint}: put the tools back, or pass toolbox={name!r} to take the present ones."
        )
    return toolbox


def _to_json(name: str, value: Any) -> Any:
    if isinstance(value, ToolboxName):
        return toolbox_reference(value.toolbox)
    if isinstance(value, SharedObject):
        if isinstance(value.value, Toolbox):
            return toolbox_reference(value.value)
        raise EnvArgumentError(
            f"{name}: a specification in JSON cannot hold {type(value.value).__name__} objects: "
            f"{_REMEDIES[name]}."
        )
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
