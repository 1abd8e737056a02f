"""One step of the execution update on the paper's toolbox, at full size, with the paper's loss.

Weights are random, and networks with random weights stand in for those that the terms of the loss need.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.cotraining import ExecutionConfig, ExecutionUpdate
from opera_env.cotraining import losses as losses_module
from opera_env.cotraining.losses import LOSS_PRESETS, _ScoreLoss
from opera_env.tools import Toolbox
from opera_env.tools.paper import random_paper_tools
from opera_env.types import Plan, Sample

PLANS: list[Plan] = [
    (
        "restormer.gaussian_denoise_15",
        "xrestormer.dehaze",
        "swinir.dejpeg",
        "restormer.gaussian_denoise_15",
    ),
    ("xrestormer.super_resolution", "brighten.gamma_correction"),
]
"""The second is for an image of a quarter of its canvas: at full size its network would need 16 GB."""


class _FeatureDistance(nn.Module):
    """Stands in for VGG and LPIPS: the difference of random features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))

    def forward(self, results: Tensor, references: Tensor) -> Tensor:
        return (self.features(results) - self.features(references)).abs().mean((1, 2, 3))


class _Score(nn.Module):
    """Stands in for MUSIQ and CLIP-IQA: a score from random features."""

    def __init__(self, max_score: float) -> None:
        super().__init__()
        self.net, self.max_score = nn.Conv2d(3, 1, 5, 2), max_score

    def forward(self, images: Tensor) -> Tensor:
        return self.max_score * F.sigmoid(self.net(images)).mean((1, 2, 3))


@pytest.mark.slow
@pytest.mark.usefixtures("returns_memory")
def test_a_step_trains_the_tools_of_its_plans(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins = {
        "vgg": _FeatureDistance,
        "lpips": _FeatureDistance,
        "musiq": lambda: _ScoreLoss(_Score(100.0), 100.0),
        "clipiqa": lambda: _ScoreLoss(_Score(1.0), 1.0),
    }
    monkeypatch.setattr(losses_module, "_TERM_NETS", {**losses_module._TERM_NETS, **stand_ins})
    names = {name for plan in PLANS for name in plan} | {"restormer.derain"}
    toolbox = Toolbox(random_paper_tools(0, tuple(names)))
    config = ExecutionConfig(loss="paper", lr=1e-6, epochs=23, micro_batch_size=1)
    update = ExecutionUpdate(toolbox, replace(config, steps_per_epoch=1))
    assert samples[3].lq.shape[-1] == 16 and samples[3].canvas == (64, 64)
    update.steps = 22  # the last epoch: all terms have their full weights
    before = {tool.name: [p.detach().clone() for p in tool.parameters] for tool in toolbox}
    logs = update.step([samples[0], samples[3]], PLANS)
    trained = {name for plan in PLANS for name in plan if not name.startswith("brighten")}
    assert logs["tools"] == len(trained) == 4 and logs["grad_norm"] > 0
    for name in ("l1", "vgg", "lpips", "musiq", "clipiqa"):
        assert torch.tensor(logs[name]).isfinite() and logs[f"weight/{name}"] == getattr(
            LOSS_PRESETS["paper"], name
        )
    for tool in toolbox:
        changes = [(p - old).abs().max() for p, old in zip(tool.parameters, before[tool.name], strict=True)]
        assert bool(changes and max(changes) > 0) == (tool.name in trained), tool.name
        assert all(change <= 2e-6 for change in changes), "Adam moves a parameter by its learning rate"
