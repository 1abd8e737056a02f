"""The warm start learns labels and plans."""

from __future__ import annotations

import numpy as np
import torch

from opera_agents.planner.policy import PlanPolicy
from opera_agents.planner.warm_start import imitation_loss, make_optimizer
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Sample


def test_label_and_tool_losses_fall(toolbox: Toolbox, samples: list[Sample]) -> None:
    torch.manual_seed(0)
    policy = PlanPolicy(len(toolbox), len(DEGRADATIONS), 3, width=32, num_layers=1, num_heads=2)
    optimizer = make_optimizer(policy, 3e-3)
    images = torch.rand(len(samples), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    losses = []
    for step in range(30):
        label_loss, tool_loss = imitation_loss(
            policy, images, samples, toolbox, np.random.default_rng(step)
        )
        optimizer.zero_grad()
        (label_loss + tool_loss).backward()
        optimizer.step()
        losses.append((label_loss.item(), tool_loss.item()))
    assert losses[-1][0] < 0.5 * losses[0][0] and losses[-1][1] < 0.7 * losses[0][1]
