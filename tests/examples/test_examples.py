"""Every example runs as it stands."""

import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
TRAINING_EXAMPLES = {
    "07_sb3_one_shot.py",
    "08_execution_update.py",
    "09_vlm.py",
    "12_vlm_turns.py",
    "13_own_ppo.py",
    "14_minari.py",
    "15_rllib.py",
}
NEEDED = {
    "14_minari.py": ("minari", "pyarrow"),
    "15_rllib.py": ("ray", "tree", "lz4", "ormsgpack", "pyarrow"),
}
"""Packages of examples that no extra but their own brings."""

every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.name not in TRAINING_EXAMPLES], ids=lambda path: path.name
)
def test_example_runs_and_prints(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which saves the time to import everything again."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
@every_example
def test_example_runs_in_a_new_process(path: Path, tmp_path: Path) -> None:
    for package in NEEDED.get(path.name, ()):
        if find_spec(package) is None:
            pytest.skip(f"the example needs {package}")
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_page_has_all_examples() -> None:
    names = {path.name for path in EXAMPLES[0].parent.iterdir() if path.suffix in (".py", ".ipynb")}
    text = (EXAMPLES[0].parents[1] / "docs" / "examples.md").read_text()
    assert set(re.findall(r"^\| \[`([\w.]+\.\w+)`\]", text, re.MULTILINE)) == names


@every_example
def test_example_has_at_most_80_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 80
