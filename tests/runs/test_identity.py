"""Inputs of runs are the same if their content is the same, wherever they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_env.data.images import write_image
from opera_env.errors import SampleError
from opera_env.runs import (
    identify_agent,
    identify_file,
    identify_images,
    identify_toolbox,
    identify_weights,
)
from opera_env.tools import Toolbox
from opera_env.weights.checkpoints import save_half


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images, one of which is larger than what is read of it."""
    folder, rng = tmp_path / "data" / "train", np.random.default_rng(0)
    for name, side in {"a": 8, "b": 8, "large": 300}.items():
        write_image(folder / f"{name}.png", rng.integers(0, 256, (side, side, 3), np.uint8))
    return folder


def test_moved_images_are_the_same(images: Path, tmp_path: Path) -> None:
    before = identify_images(images)
    assert before["name"] == "data/train" and len(before["content"]) == 16
    moved = images.rename(tmp_path / "moved")
    (moved / "notes.txt").write_text("other files do not matter")
    assert identify_images(moved)["content"] == before["content"]


@pytest.mark.parametrize("change", ["replaced", "renamed", "removed", "added", "end", "beginning"])
def test_changed_images_differ(images: Path, change: str) -> None:
    before = identify_images(images)["content"]
    large = images / "large.png"
    content = bytearray(large.read_bytes())
    if change == "replaced":
        shutil.copy(images / "a.png", images / "b.png")
    elif change == "renamed":
        (images / "a.png").rename(images / "c.png")
    elif change == "removed":
        (images / "a.png").unlink()
    elif change == "added":
        shutil.copy(images / "a.png", images / "d.png")
    else:
        content[-70 if change == "end" else 70] ^= 1
        large.write_bytes(content)
    assert identify_images(images)["content"] != before


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="nowhere"):
        identify_images(tmp_path / "nowhere")


def test_weights_are_identified_by_content(tmp_path: Path) -> None:
    for folder, value in {"a": 0.0, "b": 0.0, "c": 1.0}.items():
        save_half({"weight": torch.full((3,), value)}, tmp_path / folder / "agent.safetensors")
    a, b, c = (identify_weights(tmp_path / name) for name in "abc")
    assert a["content"] == b["content"] != c["content"] and a["name"].endswith("/a")
    files = [identify_file(tmp_path / name / "agent.safetensors") for name in "abc"]
    assert files[0] == files[1] != files[2] and identify_file(None) is None
    agents = [identify_agent(f"planner:{tmp_path / name}") for name in "abc"]
    contents = [agent["content"] for agent in agents if isinstance(agent, dict)]
    assert contents[0] == contents[1] != contents[2]
    assert isinstance(agents[0], dict) and agents[0]["name"].startswith("planner:")
    for name in ("matched", "planner:lite-cotrained", "my_module:MyAgent"):
        assert identify_agent(name) == name


def test_toolboxes_are_identified_by_fingerprint(small_toolbox: Path, tmp_path: Path) -> None:
    shutil.copytree(small_toolbox, tmp_path / "T1" / "toolbox")
    Toolbox.load(small_toolbox).subset(["unet.denoise"]).save(tmp_path / "T2" / "toolbox")
    original, same, other = (
        identify_toolbox(str(folder), Toolbox.load(folder).fingerprint)
        for folder in (small_toolbox, tmp_path / "T1" / "toolbox", tmp_path / "T2" / "toolbox")
    )
    assert original["content"] == same["content"] != other["content"]
    assert (same["name"], other["name"]) == ("T1/toolbox", "T2/toolbox")
    assert identify_toolbox("lite", "0")["name"] == "lite"
