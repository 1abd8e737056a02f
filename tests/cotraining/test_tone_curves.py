"""Tone curves for brightening tools: results stay the same until the curves are trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opera_env.cotraining import ExecutionConfig, ExecutionUpdate, add_tone_curves
from opera_env.errors import ToolboxError
from opera_env.tools import Toolbox
from opera_env.types import Sample

PIXEL = ExecutionConfig(loss="pixel", lr=1e-3)
BRIGHTEN_FIRST = ("tiny.brighten", "tiny.first")


def test_untrained_curves_change_neither_results_nor_signature(toolbox: Toolbox) -> None:
    with_curves, image = add_tone_curves(toolbox), torch.rand(2, 3, 16, 16)
    assert with_curves.signature == toolbox.signature and with_curves.fingerprint != toolbox.fingerprint
    with torch.inference_mode():
        for tool in toolbox:
            torch.testing.assert_close(
                with_curves[tool.name](image, (64, 64)), tool(image, (64, 64)), atol=0, rtol=0
            )
    assert not toolbox["tiny.brighten"].parameters and with_curves["tiny.brighten"].parameters


def test_only_brightening_tools_get_a_curve_and_only_one(toolbox: Toolbox) -> None:
    toolbox.add("mine.invert", lambda image: 1 - image)
    once = add_tone_curves(toolbox)
    changed = {one.name for one, other in zip(once, toolbox, strict=True) if one is not other}
    assert changed == {"tiny.brighten"}
    assert all(one is other for one, other in zip(once, add_tone_curves(once), strict=True))


def test_trained_curves_are_loaded_into_a_toolbox_without_curves(
    toolbox: Toolbox, samples: list[Sample], tmp_path: Path
) -> None:
    with_curves = add_tone_curves(toolbox)
    ExecutionUpdate(with_curves, PIXEL).step(samples[:2], [BRIGHTEN_FIRST] * 2)
    with_curves.save(tmp_path)
    stale = ExecutionUpdate(toolbox, PIXEL)
    assert toolbox.load_weights(tmp_path).fingerprint == with_curves.fingerprint
    assert Toolbox.load(tmp_path).fingerprint == with_curves.fingerprint
    with pytest.raises(ToolboxError, match="make a new one"):
        stale.step(samples[:2], [BRIGHTEN_FIRST] * 2)
    ExecutionUpdate(toolbox, PIXEL).step(samples[:2], [BRIGHTEN_FIRST] * 2)


def test_a_tone_curve_can_be_trained(toolbox: Toolbox, samples: list[Sample]) -> None:
    with_curves = add_tone_curves(toolbox.subset(["tiny.brighten"]))
    update = ExecutionUpdate(with_curves, PIXEL)
    losses = [update.step(samples, [("tiny.brighten",)] * len(samples))["loss"] for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
