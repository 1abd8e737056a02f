"""One reference page for each package, with all of its modules, for the documentation site."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from pathlib import Path

PACKAGES = ("opera_env", "opera_agents", "opera_baselines")


def write_reference_pages(folder: Path) -> None:
    """Writes a page for each package and an index; pages of packages that are gone are removed."""
    pages = {name: _page(name, modules) for name, modules in find_modules().items()}
    entries = "\n".join(f"   {name}" for name in sorted(pages))
    lines = "\n".join(f"- :doc:`{name}`: {_summary(name)}" for name in sorted(pages))
    pages["index"] = f"""{_title("Reference", "=")}
The packages with their modules, classes and functions, from the docstrings.

{lines}

.. toctree::
   :hidden:

{entries}
"""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.is_file() or path.read_text() != text:  # Sphinx reads changed files again
            path.write_text(text)


def find_modules() -> dict[str, list[str]]:
    """Returns the modules of each package, in order of their names; a package is the first of its own."""
    found: dict[str, list[str]] = {}
    for top in PACKAGES:
        spec = importlib.util.find_spec(top)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"expected the package {top}, found none: run make setup.")
        found[top] = [top]
        for module in pkgutil.walk_packages(spec.submodule_search_locations, f"{top}."):
            if module.name.endswith(".__main__"):
                continue
            package = module.name if module.ispkg else module.name.rpartition(".")[0]
            found.setdefault(package, []).append(module.name)
    return found


def _page(name: str, modules: list[str]) -> str:
    parts = [_title(name, "=")]
    for module in modules:
        if module != name:
            parts.append(_title(module, "-"))
        parts.append(
            f".. automodule:: {module}\n   :members:\n   :ignore-module-all:\n   :show-inheritance:\n"
        )
    return "\n".join(parts)


def _title(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}\n"


def _summary(name: str) -> str:
    """Returns the first line of the docstring of a package."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    return docstring.split("\n")[0]
