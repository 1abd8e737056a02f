"""The conda recipes ask for what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {"matplotlib": "matplotlib-base", "opencv-python-headless": "py-opencv", "torch": "pytorch"}
"""Names of packages on conda-forge, where they are not those of the package index."""


def recipe(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "conda" / name / "recipe.yaml").read_text())


def bounds(requirements: list[str]) -> dict[str, str]:
    """Returns the lower bound of each package."""
    found = [re.fullmatch(r"([\w.-]+) ?>=([\w.]+)", text) for text in requirements]
    assert all(found), requirements
    return {match[1]: match[2] for match in found if match}


def test_the_recipe_has_the_version_the_requirements_and_the_command_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package, conda = project["project"], recipe("opera-env")
    assert conda["context"]["version"] == package["version"]
    assert f">={conda['context']['python_min']}" == package["requires-python"]
    python, *run = conda["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    expected = bounds(package["dependencies"])
    assert bounds(run) == {CONDA_NAMES.get(name, name): bound for name, bound in expected.items()}
    assert bounds(conda["requirements"]["host"][2:]) == bounds(project["build-system"]["requires"])
    commands = dict(text.split(" = ") for text in conda["build"]["python"]["entry_points"])
    assert commands == package["scripts"]
    files = [name for test in conda["tests"] for name in test.get("files", {}).get("source", [])]
    assert files and all((ROOT / name).is_file() for name in files)
    assert conda["about"]["license"] == package["license"]
    assert conda["about"]["summary"] == package["description"]


def test_the_recipe_of_spandrel_is_the_version_that_the_tests_run_with() -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"spandrel=={recipe('spandrel')['context']['version']}" in constraints
