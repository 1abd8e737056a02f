"""Imports objects that users name on a command line or in a setting, as ``module:attribute``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from opera_env.errors import error_message


def import_attribute(name: str) -> Any:
    """Imports a module, which runs its code, and returns an attribute of it.

    Args:
        name: "module:attribute", such as "my_package.sources:foggy_streets".

    Raises:
        ImportError: If there is no such module, or its code raises. The message says what to do if the
            module lies in the current folder, where an installed command does not search, unlike
            ``python -m``.
        AttributeError: If the module has no such attribute, or the name has no colon.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        path = Path.cwd().joinpath(*module_name.split("."))
        is_here = path.with_suffix(".py").exists() or path.is_dir()
        if error.name != module_name.split(".")[0] or not is_here:
            raise
        raise ImportError(
            f"{error}. The current folder has it, but Python does not search there: set "
            f"PYTHONPATH={Path.cwd()} or install the package."
        ) from error
    except ImportError:
        raise
    except Exception as error:  # another class than those of this package: each caller has its own
        what = f"{type(error).__name__}: {error_message(error)}"
        raise ImportError(f"the code of module {module_name!r} raised {what}") from error
    return getattr(module, attribute)
