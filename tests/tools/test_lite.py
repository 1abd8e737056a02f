"""The lite toolbox: its table, and the weights that are shipped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import opera_env.tools.toolbox as toolbox_module
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import UnknownToolError
from opera_env.tools import Toolbox
from opera_env.tools.lite import LITE, lite_recipe
from opera_env.tools.nets import build_net

FOLDER = Path(toolbox_module.__file__).parent / "weights" / "lite"
TRAINED = [recipe.name for recipe in LITE if recipe.steps]


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    manifest = json.loads((FOLDER / "toolbox.json").read_text())
    return {entry["name"]: entry for entry in manifest["tools"]}


@pytest.fixture(scope="module")
def shipped() -> Toolbox:
    return Toolbox.load("lite")


def test_names_stand_once() -> None:
    names = [recipe.name for recipe in LITE]
    assert len(set(names)) == len(names)
    for recipe in LITE:
        assert lite_recipe(recipe.name) is recipe
    with pytest.raises(UnknownToolError):
        lite_recipe("unet.denoize")


def test_every_degradation_has_a_tool_and_every_tool_a_degradation() -> None:
    covered = {name for recipe in LITE for name in recipe.degradations}
    assert covered == set(DEGRADATIONS)
    assert all(recipe.degradations for recipe in LITE)


@pytest.mark.parametrize("recipe", LITE, ids=lambda recipe: recipe.name)
def test_recipes_can_be_built_and_trained(recipe: Any) -> None:
    net = build_net(recipe.net, recipe.options)
    assert bool(list(net.parameters())) == bool(recipe.steps)
    assert recipe.patch % 4 == 0
    assert recipe.margin % 4 == 0
    scale = recipe.options.get("scale", 1)
    assert (scale == 4) == (recipe.degradations == ("low_resolution",))
    assert (recipe.patch // scale) % getattr(net, "multiple", 1) == 0, "a patch needs no padding"
    # A tool for more than one degradation would have to say how it is trained.
    assert len(recipe.degradations) == 1


def test_the_shipped_toolbox_is_the_table(shipped: Toolbox) -> None:
    assert shipped.names == tuple(recipe.name for recipe in LITE)
    for recipe, tool in zip(LITE, shipped, strict=True):
        assert tool.degradations == frozenset(recipe.degradations)
        assert tool.scale == recipe.options.get("scale", 1)
        assert tool.multiple == getattr(tool.module, "multiple", 1)
        assert tool.net is not None
        # Compared as the manifest stores them, where a tuple is a list.
        assert json.dumps(tool.net) == json.dumps([recipe.net, dict(recipe.options)])


def test_the_shipped_files_are_small_and_whole(entries: dict[str, Any]) -> None:
    for entry in entries.values():
        if entry["file"] is None:
            assert build_net(entry["net"], entry["options"]).state_dict() == {}
            continue
        data = (FOLDER / entry["file"]).read_bytes()
        assert len(data) < 1_000_000
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert len(data) < 2.2 * entry["parameters"] + 10_000, "stored as float16"
    assert {path.name for path in FOLDER.iterdir()} == {
        "toolbox.json",
        *(entry["file"] for entry in entries.values() if entry["file"]),
    }


@pytest.mark.parametrize("name", TRAINED)
def test_the_manifest_says_how_a_tool_was_trained(entries: dict[str, Any], name: str) -> None:
    training = entries[name]["training"]
    assert training["command"].startswith(f"python -m opera_env.tools.train {name}")
    assert training["data"]
    assert training["validation"]
    assert training["steps"] > 0
    assert training["images"] > 0
    assert isinstance(training["psnr_gain"], float)


@pytest.mark.parametrize("name", [recipe.name for recipe in LITE])
def test_every_shipped_tool_runs_on_any_size(shipped: Toolbox, name: str) -> None:
    tool = shipped[name]
    for size in ((128, 128), (37, 51), (1, 1)):
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            result = tool(image, size)
        assert result.shape == image.shape
        assert result.isfinite().all()
