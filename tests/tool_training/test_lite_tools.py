"""The pools lite and lite-adapted: the specs of their tools, and the shipped weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import opera_env.tools.toolbox as toolbox_module
from opera_env.degradations import DEGRADATIONS, degrade
from opera_env.tool_training.config import Pool
from opera_env.tool_training.lite_tools import LITE_TOOLS, ToolSpec
from opera_env.tool_training.model_card import read_card
from opera_env.tool_training.original_data import GaussianNoise
from opera_env.tool_training.pools import find_spec, pool_specs, training_spec
from opera_env.tools import Toolbox
from opera_env.tools.nets import build_net

WEIGHTS = Path(toolbox_module.__file__).parent / "weights"
POOLS: tuple[Pool, ...] = ("lite", "lite-adapted")
TRAINED = [spec for spec in LITE_TOOLS if spec.steps]

every_spec = pytest.mark.parametrize("spec", LITE_TOOLS, ids=lambda spec: spec.name)
every_trained = pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> Pool:
    return request.param


@pytest.fixture(scope="module")
def entries(pool: Pool) -> dict[str, Any]:
    manifest = json.loads((WEIGHTS / pool / "toolbox.json").read_text())
    return {entry["name"]: entry for entry in manifest["tools"]}


@pytest.fixture(scope="module")
def shipped(pool: Pool) -> Toolbox:
    return Toolbox.load(pool)


def _to_json(net: str, options: Any) -> str:
    """The network as JSON, where tuples are lists as in the manifest."""
    return json.dumps([net, dict(options)], sort_keys=True)


def test_names_differ() -> None:
    names = [spec.name for spec in LITE_TOOLS]
    assert len(set(names)) == len(names)


def test_the_number_of_tools_for_each_degradation_equals_the_papers() -> None:
    assert len(LITE_TOOLS) == 18
    assert Counter(spec.degradation for spec in LITE_TOOLS) == {
        "noise": 7,
        "rain": 2,
        "haze": 1,
        "defocus_blur": 2,
        "motion_blur": 1,
        "low_resolution": 2,
        "jpeg": 1,
        "low_light": 2,
    }
    assert {spec.degradation for spec in LITE_TOOLS} == set(DEGRADATIONS)


def test_there_are_denoisers_of_three_strengths_in_two_families_and_a_blind_one() -> None:
    strengths: dict[str, list[tuple[float, float]]] = {}
    for spec in LITE_TOOLS:
        if spec.degradation == "noise":
            assert isinstance(spec.training_data, GaussianNoise)
            strengths.setdefault(spec.net, []).append((spec.training_data.low, spec.training_data.high))
    fixed = [(15, 15), (25, 25), (50, 50)]
    assert strengths == {"unet": [(0, 55), *fixed], "nafnet": fixed}


@pytest.mark.parametrize("degradation", ["rain", "defocus_blur"])
def test_two_tools_for_one_degradation_have_different_networks(degradation: str) -> None:
    assert len({spec.net for spec in LITE_TOOLS if spec.degradation == degradation}) == 2


def test_only_one_super_resolution_tool_is_trained_with_lpips() -> None:
    assert [spec.degradation for spec in LITE_TOOLS if spec.lpips_weight > 0] == ["low_resolution"]


@every_spec
def test_a_name_consists_of_family_and_task(spec: ToolSpec) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z0-9]+)*", spec.name)
    family = spec.name.partition(".")[0]
    assert family == (spec.net if spec.steps else "brighten")


@every_spec
def test_init_from_names_a_tool_with_the_same_network(spec: ToolSpec) -> None:
    """Following init_from from tool to tool ends at a tool with random initial weights."""
    seen = {spec.name}
    while spec.init_from is not None:
        start = find_spec("lite", spec.init_from)
        assert start.steps
        assert start.name not in seen
        assert start.degradation == spec.degradation
        assert _to_json(start.net, start.options) == _to_json(spec.net, spec.options)
        seen.add(start.name)
        spec = start


@every_spec
def test_specs_are_valid_for_training(spec: ToolSpec) -> None:
    net = build_net(spec.net, spec.options)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert 100_000 <= parameters <= 600_000 if spec.steps else parameters == 0
    assert spec.patch_size % 4 == 0
    assert spec.margin % 4 == 0
    scale = spec.options.get("scale", 1)
    assert (scale == 4) == (spec.degradation == "low_resolution")
    assert (spec.patch_size // scale) % getattr(net, "multiple", 1) == 0, "patches must not need padding"
    assert spec.flip_only == (spec.degradation == "haze")


@pytest.mark.parametrize("spec", pool_specs("lite-adapted"), ids=lambda spec: spec.name)
def test_adapted_tools_see_the_benchmarks_degradation_or_noise_of_one_strength(spec: ToolSpec) -> None:
    rows, columns = np.mgrid[0:64, 0:96]
    image = np.stack([64 + rows, 64 + columns, 192 - rows], axis=2).astype(np.uint8)
    actual = spec.degrade(image, np.random.default_rng(5))
    if spec.training_data is None:
        assert np.array_equal(actual, degrade(image, (spec.degradation,), np.random.default_rng(5))[0])
    else:
        assert spec.degradation == "noise"
        spread = (actual.astype(float) - image).std()
        assert spread == pytest.approx(float(spec.name.rpartition("_")[2]), rel=0.05)


def test_the_training_data_takes_precedence_over_the_degradation() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    spec = ToolSpec("mine.invert", "noise", training_data=lambda image, rng: 255 - image)
    assert (spec.degrade(image, np.random.default_rng(0)) == 155).all()
    drawn = replace(spec, training_data=None).degrade(image, np.random.default_rng(0))
    assert not (drawn == 155).all()


def test_the_shipped_toolbox_equals_the_specs(pool: Pool, shipped: Toolbox) -> None:
    assert shipped.names == tuple(spec.name for spec in LITE_TOOLS)
    for spec, tool in zip(pool_specs(pool), shipped, strict=True):
        assert training_spec(tool) is (spec if spec.steps else None)
        assert tool.degradations == {spec.degradation}
        assert tool.scale == spec.options.get("scale", 1)
        assert tool.multiple == getattr(tool.module, "multiple", 1)
        assert tool.halo == getattr(tool.module, "halo", None)
        assert tool.net is not None
        assert _to_json(*tool.net) == _to_json(spec.net, spec.options)


def test_the_shipped_files_are_small_and_undamaged(pool: Pool, entries: dict[str, Any]) -> None:
    total = 0
    for entry in entries.values():
        if entry["file"] is None:
            assert build_net(entry["net"], entry["options"]).state_dict() == {}
            continue
        data = (WEIGHTS / pool / entry["file"]).read_bytes()
        total += len(data)
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert len(data) < 2.2 * entry["parameters"] + 10_000, "stored as float16"
    assert total < 12_000_000
    assert {path.name for path in (WEIGHTS / pool).iterdir()} == {
        "README.md",
        "toolbox.json",
        *(entry["file"] for entry in entries.values() if entry["file"]),
    }


@every_trained
def test_the_manifest_records_the_training_of_each_tool(entries: dict[str, Any], spec: ToolSpec) -> None:
    training = entries[spec.name]["training"]
    assert training["command"].startswith(f"opera-env tools train {spec.name} ")
    assert ("--pool lite-adapted" in training["command"]) == (training["pool"] == "lite-adapted")
    assert f" --lr {spec.lr:g} " in training["command"]
    assert training["data"]
    assert training["validation"]
    assert training["steps"] > 0
    assert training["images"] > 0
    assert isinstance(training["psnr_gain"], int | float)


@every_spec
def test_the_manifest_has_the_card_of_each_tool(shipped: Toolbox, spec: ToolSpec) -> None:
    card = read_card(shipped[spec.name])
    assert set(card.gains) == set(DEGRADATIONS)
    assert card.ms > 0
    assert card.images > 0
    assert 0 < card.clean <= 80
    assert all(0 <= gain.worse <= card.images for gain in card.gains.values())


@every_spec
def test_every_shipped_tool_accepts_images_of_any_size(shipped: Toolbox, spec: ToolSpec) -> None:
    tool = shipped[spec.name]
    for size in ((128, 128), (37, 51), (1, 1)):
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            result = tool(image, size)
        assert result.shape == image.shape
        assert result.isfinite().all()
