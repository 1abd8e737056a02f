"""Without pyiqa, which is an extra because of its licence, everything else works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from opera_env import weights
from opera_env.errors import MissingPackageError
from opera_env.metrics import build_metric

SCRIPT = """
import importlib, pkgutil, sys
sys.modules["pyiqa"] = None  # its import raises ModuleNotFoundError
import opera_env, opera_agents, opera_baselines
for package in (opera_env, opera_agents, opera_baselines):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from opera_env.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""Imports every module of the packages, then runs a command."""


@pytest.mark.parametrize("name", ["musiq", "clipiqa", "maniqa"])
def test_its_metrics_name_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    monkeypatch.setattr(weights, "require", lambda name: Path(name))
    with pytest.raises(
        MissingPackageError, match=r"pyiqa is not installed: pip install 'opera-env\[iqa\]'"
    ):
        build_metric(name)


def test_other_metrics_do_not_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    for name in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_yiq", "gmsd", "niqe32", "piqe"):
        assert build_metric(name).name == name


@pytest.mark.slow
def test_all_modules_and_a_comparison_work_without_it(photos: Path, tmp_path: Path) -> None:
    command = ["compare", "--agents", "untouched,greedy", "--images", str(photos), "--n", "2", "--no-sheet"]
    options = ["--canvas", "64", "--reward", "no_reference", "--device", "cpu"]
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command, *options], capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert "greedy" in process.stdout
