"""Own objects named by module and attribute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from opera_env.data import resolve_source
from opera_env.degradations.registry import load_degradations
from opera_env.errors import SampleError
from opera_env.imports import import_attribute


def test_an_attribute_is_imported() -> None:
    assert import_attribute("pathlib:Path") is Path


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


@pytest.mark.parametrize("load", [resolve_source, load_degradations])
def test_the_error_for_own_code_in_the_current_folder_names_pythonpath(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[str], object]
) -> None:
    (tmp_path / "own_code_here.py").write_text("thing = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    with pytest.raises(SampleError, match=f"PYTHONPATH={tmp_path}"):
        load("own_code_here:thing")
