"""Commands import only what they need, so that they start at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMPUTING = ("torch", "cv2", "skimage", "imagecodecs", "tifffile", "safetensors", "opera_env.tools")
"""What computes: no help needs it."""

HEAVY = (
    *("scipy", "torchvision", "spandrel", "pyiqa", "lpips", "matplotlib", "pandas", "sympy", "tensorboard"),
    *("transformers", "trl", "peft", "accelerate", "stable_baselines3", "sb3_contrib", "torch._dynamo"),
)
"""What takes as long as torch, and what neither a help nor a restoration needs."""

PROGRAM = """
import contextlib, io, json, sys
from opera_env.cli import main
modules, calls = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for call in calls:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(call)
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, [name for name in modules if name in sys.modules]]))
"""
"""Runs commands one after the other, and prints their exit codes and which modules are imported then."""


def run(
    modules: tuple[str, ...], calls: list[list[str]], env: dict[str, str]
) -> list[tuple[int, list[str]]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(modules), json.dumps(calls)],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_help_and_wrong_arguments_need_no_torch(child_environment: dict[str, str]) -> None:
    subcommands = ("restore", "compare", "evaluate", "study", "bench", "tools", "weights", "demo", "hub")
    helps = [["--help"], *([name, "--help"] for name in subcommands)]
    helps += [["tools", name, "--help"] for name in ("list", "card", "train", "pack", "measure")]
    wrong = [[], ["nonsense"], ["restore"], ["restore", "a.png", "-o", "out", "--scale", "large"]]
    calls = [["--version"], *helps, *wrong]
    expected = [0] * (1 + len(helps)) + [2] * len(wrong)
    ended = run((*COMPUTING, *HEAVY), calls, child_environment)
    for call, code, (actual, imported) in zip(calls, expected, ended, strict=True):
        assert (actual, imported) == (code, []), call


@pytest.mark.slow
def test_restore_needs_nothing_that_takes_as_long_as_torch(
    tmp_path: Path, child_environment: dict[str, str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    call = ["restore", str(tmp_path / "noise.png"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert run(HEAVY, [call], child_environment) == [(0, [])]
    assert (tmp_path / "out" / "noise.png").is_file()


@pytest.mark.slow
@pytest.mark.needs_weights("lpips")
def test_environments_and_cotraining_need_nothing_that_takes_as_long_as_torch(
    child_environment: dict[str, str],
) -> None:
    program = f"""
import sys
import gymnasium
import opera_env
assert "torch" not in sys.modules, "registration needs names only"
gymnasium.make("OPERA-Restore-v0")
import opera_env.cotraining
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=child_environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
