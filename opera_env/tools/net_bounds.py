"""Builds networks from manifests in bounded time and memory: the weight file says how large one may be."""

from __future__ import annotations

import inspect
import math
import reprlib
import threading
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from opera_env.errors import ToolboxError
from opera_env.tools.nets import NETS, build_net

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name."""


def build_to_fit(kind: str, options: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    """Builds a network whose parameters and buffers have given names and shapes.

    The options are checked first, and a copy without memory is built and compared. Options of a network
    that is larger than its weight file are therefore refused before they cost time or memory.

    Args:
        kind: A key of :data:`opera_env.tools.nets.NETS`.
        options: Keyword arguments of the network's class.
        shapes: The tensors of the weight file; none for a network without weights.

    Returns:
        The network with newly initialised weights.

    Raises:
        ToolboxError: If :func:`check_fit` raises it.
    """
    check_fit(kind, options, shapes)
    return build_net(kind, options)


def check_fit(kind: str, options: Mapping[str, Any], shapes: Shapes) -> None:
    """Checks that a network has parameters and buffers of given names and shapes, without its memory.

    The arguments are those of :func:`build_to_fit`.

    Raises:
        ToolboxError: If there is no such kind, an option is unknown or unusable, or the network has other
            tensors.
    """
    if kind not in NETS:
        raise ToolboxError(f"unknown network {reprlib.repr(kind)}; expected one of {', '.join(NETS)}")
    _check_options(kind, options)
    try:
        with torch.device("meta"), limit_parameters(kind, shapes):
            found = {
                name: tuple(tensor.shape) for name, tensor in build_net(kind, options).state_dict().items()
            }
    except ToolboxError:
        raise
    except Exception as error:  # whatever a network raises for options that make no sense
        raise ToolboxError(
            f"network {kind!r} cannot be built with the options {reprlib.repr(dict(options))} "
            f"({type(error).__name__}: {error})"
        ) from error
    for name in (*found, *shapes):
        if found.get(name) != shapes.get(name):
            raise ToolboxError(
                f"network {kind!r} with the options {reprlib.repr(dict(options))} has the tensor {name!r} "
                f"with shape {found.get(name, 'none')}, and the weight file has {shapes.get(name, 'none')}"
            )


def _check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Checks that options have the types that the constructor declares, and no negative sizes."""
    types = typing.get_type_hints(NETS[kind].__init__)
    known = list(inspect.signature(NETS[kind]).parameters)
    for name, value in options.items():
        if name not in known:
            raise ToolboxError(
                f"network {kind!r}: expected options among {', '.join(known)}, found {reprlib.repr(name)}"
            )
        expected, is_valid = _OPTION_TYPES[types[name]]
        if not is_valid(value):
            raise ToolboxError(
                f"network {kind!r}: expected the option {name!r} to be {expected}, found "
                f"{reprlib.repr(value)}"
            )


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


_OPTION_TYPES: Mapping[Any, tuple[str, typing.Callable[[Any], bool]]] = {
    int: ("a whole number of at least 0", _is_size),
    bool: ("true or false", lambda value: type(value) is bool),
    float: ("a number", lambda value: type(value) in (int, float) and math.isfinite(value)),
    Sequence[int]: (
        "a list of whole numbers of at least 0",
        lambda value: isinstance(value, list | tuple) and all(_is_size(item) for item in value),
    ),
}


@contextmanager
def limit_parameters(kind: str, shapes: Shapes) -> Iterator[None]:
    """Raises an error as soon as a network has far more parameters than its weight file.

    A network may replace some of its layers while it is built, so the limit is twice the number.

    Args:
        kind: Names the network in the error message.
        shapes: The tensors of the weight file.
    """
    thread = threading.get_ident()
    tensors_left = 2 * len(shapes) + 8
    elements_left = 2 * sum(math.prod(shape) for shape in shapes.values()) + 1024

    def count(module: nn.Module, name: str, parameter: Tensor) -> None:
        nonlocal tensors_left, elements_left
        if threading.get_ident() != thread:  # the hook sees the networks of all threads
            return
        tensors_left -= 1
        elements_left -= parameter.numel()
        if tensors_left < 0 or elements_left < 0:
            raise ToolboxError(
                f"network {kind!r} is larger than its weight file, which has {len(shapes)} tensors with "
                f"{sum(math.prod(shape) for shape in shapes.values()):,} values"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
