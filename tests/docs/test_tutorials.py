"""The commands of the tutorials run as they stand, on folders with few photographs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from opera_env.cli import main

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
PAGES = sorted(path for path in TUTORIALS.glob("*.md") if path.name != "README.md")

NOT_RUN = {"tensorboard": "a server that does not end", "pip": "it would change this installation"}
"""Commands that are not run here, and why."""


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def test_every_tutorial_is_listed_and_has_commands() -> None:
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (TUTORIALS / "README.md").read_text())
    assert sorted(listed) == [page.name for page in PAGES]
    assert all(commands(page) for page in PAGES if page.name != "bring-your-own.md")


def test_code_of_bring_your_own_runs() -> None:
    namespace: dict[str, object] = {}
    for block in re.findall(
        r"```python\n(.*?)```", (TUTORIALS / "bring-your-own.md").read_text(), re.DOTALL
    ):
        exec(compile(block, "bring-your-own.md", "exec"), namespace)
    assert "mine.invert" in namespace["toolbox"].names  # type: ignore[attr-defined]
    agent = namespace["AlwaysDenoise"]()  # type: ignore[operator]
    assert [decision.plan for decision in agent.act([None])] == [("unet.denoise",)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the photographs that the pages name."""
    from skimage import data

    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    for name in ("clean", "held-out"):
        (tmp_path / name).mkdir()
        for index, image in enumerate(photographs):
            Image.fromarray(image).resize((240, 192)).save(tmp_path / name / f"{index}.png")
    Image.fromarray(data.chelsea()).resize((200, 160)).save(tmp_path / "holiday.jpg", quality=15)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.needs_weights("lpips")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run(page: Path, folder: Path, child_environment: dict[str, str]) -> None:
    for words in commands(page):
        if words[0] in NOT_RUN:
            continue
        if words[0] == "opera-env":
            assert main(words[1:]) == 0, words
        else:
            assert words[:2] == ["python", "-m"], words
            program = [sys.executable, *words[1:]]
            done = subprocess.run(
                program, cwd=folder, env=child_environment, capture_output=True, text=True
            )
            assert done.returncode == 0, (words, done.stderr[-2000:])
