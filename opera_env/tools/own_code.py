"""Networks that are code of their author: a class, function or module that is named as module:attribute."""

from __future__ import annotations

import copy
import inspect
import json
import re
import reprlib
from collections.abc import Mapping
from textwrap import shorten
from typing import Any

from torch import Tensor, nn

from opera_env.errors import ToolboxError, error_message, wrap_errors
from opera_env.imports import import_attribute
from opera_env.tools.tool import RestoreFn

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""What names of own networks look like."""


def build_own(name: str, options: Mapping[str, Any]) -> RestoreFn:
    """Imports a network of one's own, which runs the code of its module, and builds it.

    Args:
        name: "module:attribute". A class, or a function that is given options, is called with them and
            returns the network; anything else is the network itself, a function or a module.
        options: Keyword arguments, in JSON types.

    Returns:
        The network; a module is a new one with every call.

    Raises:
        ToolboxError: If the name cannot be imported, or does not lead to a network.
    """
    found: Any
    try:
        found = import_attribute(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ToolboxError(
            f"network {name!r} cannot be imported: {error_message(error)}. Expected module:attribute."
        ) from error
    if inspect.isclass(found) or options:
        if not callable(found) or isinstance(found, nn.Module):
            raise ToolboxError(
                f"network {name!r} takes no options, found {reprlib.repr(dict(options))}: leave them out."
            )
        with wrap_errors(ToolboxError, f"network {name!r} with the options {reprlib.repr(dict(options))}"):
            found = found(**options)
    elif isinstance(found, nn.Module):
        found = copy.deepcopy(found)
    if not callable(found):
        raise ToolboxError(
            f"network {name!r}: expected a module or a function from images to images, found "
            f"{reprlib.repr(found)}."
        )
    return found  # pyright: ignore[reportReturnType]


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options of an own network as they will be read from a manifest.

    Raises:
        ToolboxError: If they are not of JSON types.
    """
    try:
        return json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ToolboxError(
            f"network {name!r}: expected options in JSON types, so that the toolbox can be saved, found "
            f"{reprlib.repr(dict(options))} ({error})."
        ) from error


def load_state(network: RestoreFn, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads weights into a network.

    Args:
        network: The network.
        weights: Its whole state.
        what: Names the network and the origin of the weights in error messages.

    Raises:
        ToolboxError: If the network is a function, or the weights are those of another network.
    """
    if not isinstance(network, nn.Module):
        raise ToolboxError(f"{what}: a function has no weights: name a class of torch.nn.Module.")
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ToolboxError(f"{what}: the weights do not fit ({shorten(str(error), 300)}).") from error
