"""The example of a custom metric prints what its docstring says."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path

import pytest


def test_the_output_is_that_of_the_docstring(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace = runpy.run_path(str(repository / "examples" / "10_own_metric.py"), run_name="__main__")
    _, expected = inspect.cleandoc(namespace["__doc__"]).split("Output:\n")
    assert capsys.readouterr().out.splitlines() == [line.strip() for line in expected.splitlines()]
