"""Imports of objects that users name as ``module:attribute``, and of packages that extras bring."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opera_env.errors import MissingPackageError, error_message


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turns the error of an import in the ``with`` statement into one that names the extra to install.

    Args:
        extra: The extra that brings the packages, a key of ``optional-dependencies``.

    Raises:
        MissingPackageError: If a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(error.name or str(error), extra) from error


def require_packages(extra: str, *packages: str) -> None:
    """Checks, without importing them, that packages of an extra are installed.

    Args:
        extra: The extra that brings the packages, a key of ``optional-dependencies``.
        *packages: Names of the packages, as they are imported.

    Raises:
        MissingPackageError: If one of them is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(package, extra)


def import_attribute(name: str) -> Any:
    """Imports a module, which runs its code, and returns an attribute of it.

    The module may also lie in the current folder, as with ``python -m`` and ``uvicorn module:app``. That
    folder is searched last, and only for a module that is found nowhere else: a file in it never takes the
    place of an installed module. It then stays at the end of ``sys.path``, so that the module finds its
    neighbours. Python's option ``-P`` (``PYTHONSAFEPATH``) excludes it.

    Args:
        name: "module:attribute", such as "my_package.sources:foggy_streets".

    Raises:
        ImportError: If there is no such module, or its code raises.
        AttributeError: If the module has no such attribute, or the name has no colon.
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ImportError(f"expected module:attribute, such as my_module:MyClass, found {name!r}")
    try:
        _find_in_current_folder(module_name.partition(".")[0])
        module = importlib.import_module(module_name)
    except ImportError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error_message(error)}"
        raise ImportError(f"the code of module {module_name!r} raised {what}") from error
    return getattr(module, attribute)


def _find_in_current_folder(package: str) -> None:
    """Adds the current folder to the end of the search path if a package is found in it and nowhere else.

    Raises:
        ImportError: If it is found in it, but Python was told not to search there.
    """
    if package in sys.modules or importlib.util.find_spec(package) is not None:
        return
    folder = Path.cwd()
    if not (folder / f"{package}.py").is_file() and not (folder / package).is_dir():
        return
    if sys.flags.safe_path:
        raise ImportError(
            f"No module named {package!r}. The current folder has it, but Python was told not to search "
            f"there (-P or PYTHONSAFEPATH): set PYTHONPATH={folder} or install the package."
        )
    sys.path.append(str(folder))
    importlib.invalidate_caches()
