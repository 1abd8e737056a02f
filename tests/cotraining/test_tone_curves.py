"""Brighteners that are given a tone curve: the same world until they are trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opera_env.cotraining import ExecutionConfig, ExecutionUpdate, add_tone_curves
from opera_env.errors import ToolboxError
from opera_env.tools import Toolbox
from opera_env.types import Sample

PIXEL = ExecutionConfig(loss="pixel", lr=1e-3)
DARK = ("tiny.brighten", "tiny.first")


def test_results_and_signature_stay(toolbox: Toolbox) -> None:
    toned, image = add_tone_curves(toolbox), torch.rand(2, 3, 16, 16)
    assert toned.signature == toolbox.signature and toned.fingerprint != toolbox.fingerprint
    with torch.inference_mode():
        for tool in toolbox:
            torch.testing.assert_close(
                toned[tool.name](image, (64, 64)), tool(image, (64, 64)), atol=0, rtol=0
            )
    assert not toolbox["tiny.brighten"].parameters and toned["tiny.brighten"].parameters


def test_only_brighteners_change_and_only_once(toolbox: Toolbox) -> None:
    toolbox.add("mine.invert", lambda image: 1 - image)
    once = add_tone_curves(toolbox)
    changed = {one.name for one, other in zip(once, toolbox, strict=True) if one is not other}
    assert changed == {"tiny.brighten"}
    assert all(one is other for one, other in zip(once, add_tone_curves(once), strict=True))


def test_they_are_saved_and_loaded_into_a_world_without_them(
    toolbox: Toolbox, samples: list[Sample], tmp_path: Path
) -> None:
    toned = add_tone_curves(toolbox)
    ExecutionUpdate(toned, PIXEL).step(samples[:2], [DARK] * 2)
    toned.save(tmp_path)
    stale = ExecutionUpdate(toolbox, PIXEL)
    assert toolbox.load_weights(tmp_path).fingerprint == toned.fingerprint
    assert Toolbox.load(tmp_path).fingerprint == toned.fingerprint
    with pytest.raises(ToolboxError, match="make a new one"):
        stale.step(samples[:2], [DARK] * 2)
    ExecutionUpdate(toolbox, PIXEL).step(samples[:2], [DARK] * 2)


def test_a_brightener_learns(toolbox: Toolbox, samples: list[Sample]) -> None:
    toned = add_tone_curves(toolbox.subset(["tiny.brighten"]))
    update = ExecutionUpdate(toned, PIXEL)
    losses = [update.step(samples, [("tiny.brighten",)] * len(samples))["loss"] for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
