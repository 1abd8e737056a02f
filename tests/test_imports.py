"""Own objects named by module and attribute."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opera_env.agents import make_agent
from opera_env.data import resolve_source
from opera_env.degradations.registry import load_degradations
from opera_env.errors import MissingPackageError, SampleError
from opera_env.imports import import_attribute, needs_extra


def test_an_attribute_is_imported() -> None:
    assert import_attribute("pathlib:Path") is Path


def test_a_package_that_is_not_installed_is_named_with_its_extra() -> None:
    with (
        pytest.raises(MissingPackageError, match=r"no_such_package is not installed.*\[report\]"),
        needs_extra("report"),
    ):
        importlib.import_module("no_such_package.part")


@pytest.mark.parametrize(
    ("package", "needed"),
    [("vlm", "transformers"), ("ppo", "sb3_contrib"), ("rl_restore", "stable_baselines3")],
)
def test_agents_name_the_extra_that_they_need(
    package: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a package of the extra would be imported before any code of ours."""
    monkeypatch.setitem(sys.modules, needed, None)
    for name in [name for name in sys.modules if f"{name}.".startswith(f"opera_agents.{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingPackageError, match=rf"{needed} is not installed.*\[agents\]"):
        importlib.import_module(f"opera_agents.{package}")
    with pytest.raises(MissingPackageError, match=needed):
        make_agent(package, toolbox=None)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no_such_module_anywhere:x", ModuleNotFoundError),
        ("pathlib.nothing:x", ModuleNotFoundError),
        ("pathlib:nothing", AttributeError),
        ("pathlib", AttributeError),
    ],
)
def test_a_name_that_cannot_be_imported_raises(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        import_attribute(name)


@pytest.mark.parametrize(
    ("code", "says"),
    [("1 / 0\n", "ZeroDivisionError: division by zero"), ("def broken(:\n", "SyntaxError")],
)
def test_a_module_whose_code_raises_is_named(
    code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_that_raises.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=f"code of module 'module_that_raises' raised {says}"):
        import_attribute("module_that_raises:thing")


@pytest.mark.parametrize(
    "name", ["", ":x", "..secret:x", "a b:x", "my-module:x", "folder/module:x", "../m:x"]
)
def test_a_name_that_is_none_of_a_module_says_what_is_expected(name: str) -> None:
    with pytest.raises(ImportError, match="expected module:attribute, such as"):
        import_attribute(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a test, which Python does not search, as for an installed command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry not in ("", ".")])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("load", [resolve_source, load_degradations])
def test_own_code_in_the_current_folder_is_imported(folder: Path, load: Callable[[str], object]) -> None:
    (folder / "own_code_here.py").write_text("thing = 3\n")
    with pytest.raises(SampleError, match=r"\b3\b.*expected|found 3"):
        load("own_code_here:thing")


def test_own_code_finds_its_neighbours_and_packages(folder: Path) -> None:
    (folder / "own_package").mkdir()
    (folder / "own_package" / "part.py").write_text("from own_helper import thing\n")
    (folder / "own_helper.py").write_text("thing = 3\n")
    assert import_attribute("own_package.part:thing") == 3
    assert sys.path[-1] == str(folder), "searched last"


def test_a_file_of_the_current_folder_replaces_no_installed_module(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "colorsys.py").write_text("raise SystemExit('this file must not run')\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    before = list(sys.path)
    assert callable(import_attribute("colorsys:rgb_to_hsv"))
    assert sys.path == before, "the folder is not searched if nothing of it was asked for"


def test_names_that_are_found_nowhere_leave_the_search_path_alone(folder: Path) -> None:
    before = list(sys.path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        import_attribute("no_such_module_anywhere:x")
    assert sys.path == before


def test_a_python_that_does_not_search_the_current_folder_says_what_to_do(folder: Path) -> None:
    (folder / "own_code_here.py").write_text("thing = 3\n")
    program = "from opera_env.imports import import_attribute; import_attribute('own_code_here:thing')"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert f"PYTHONPATH={folder}" in done.stderr.splitlines()[-1]
