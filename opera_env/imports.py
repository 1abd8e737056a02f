"""Imports objects that users name on a command line or in a setting, as ``module:attribute``."""

from __future__ import annotations

import importlib
from typing import Any


def import_attribute(name: str) -> Any:
    """Imports a module, which runs its code, and returns an attribute of it.

    Args:
        name: "module:attribute", such as "my_package.sources:foggy_streets".

    Raises:
        ImportError: If there is no such module.
        AttributeError: If the module has no such attribute, or the name has no colon.
    """
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
