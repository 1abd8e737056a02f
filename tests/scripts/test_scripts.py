"""Every script can be imported, and its docstring has an example whose options exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_docstring_has_an_example_with_existing_options(path: Path) -> None:
    module = importlib.import_module(f"scripts.{path.stem}")
    assert module.__doc__ is not None
    _, _, example = module.__doc__.partition("\nExample:\n")
    assert f"python scripts/{path.name}" in example
    command = example.split(f"python scripts/{path.name}")[1]
    fields = set(re.findall(r"^    (\w+): ", path.read_text(), re.MULTILINE))
    shown = {option.replace("-", "_") for option in re.findall(r"--([\w-]+)", command)}
    assert shown <= fields, shown - fields
