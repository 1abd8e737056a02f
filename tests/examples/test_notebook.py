"""The notebook is small, has no output, and runs from the first cell to the last."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "opera.ipynb"


def test_it_is_committed_without_output() -> None:
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 6 and "%pip install" in code[0].source
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nbmake") is None, reason="the notebook needs nbmake")
def test_it_runs_with_tiny_sizes(tmp_path: Path, child_environment: dict[str, str]) -> None:
    shutil.copy(NOTEBOOK, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=600", NOTEBOOK.name],
        cwd=tmp_path,
        env=child_environment | {"OPERA_NOTEBOOK_QUICK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1 passed" in done.stdout
    assert (tmp_path / "runs" / "notebook" / "planner" / "planner.json").exists()
