"""The warm start: what is wrong with an image, and plans that make sense for it, learned from labels.

No tool runs. The paper starts from a vision-language model that knows image quality and reads what the
tools are for; a small network that starts from nothing is told the same by example.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import draw_samples, label_targets, observe_batch, prefetch
from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.policy import PlanPolicy, completion_mask
from opera_env.data import Source
from opera_env.plan import PlanCodec
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tools import Toolbox
from opera_env.types import Sample

SAVE_EVERY = 100
"""Steps between checkpoints."""


def imitation_loss(
    policy: PlanPolicy,
    images: Tensor,
    samples: Sequence[Sample],
    toolbox: Toolbox,
    rng: Generator,
    autocast: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns the loss on the labels and the loss on plausible plans, a fresh draw each time.

    With ``autocast`` the encoder computes in bfloat16.
    """
    codec = PlanCodec(toolbox.names, policy.max_tools)
    plans = [
        plausible_plan(toolbox, sample.degradations or frozenset(), rng, policy.max_tools)
        for sample in samples
    ]
    tokens = torch.from_numpy(np.stack([codec.encode(plan) for plan in plans])).to(images.device)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        seen = policy.encode(images)
    seen = seen.float()
    odds = policy.label_logits(seen)
    of_labels = F.binary_cross_entropy_with_logits(odds, label_targets(samples).to(odds))
    of_tools = F.cross_entropy(
        policy.tool_logits(seen, tokens[:, :-1]).flatten(0, 1), tokens.flatten(), reduction="none"
    )
    going = completion_mask(tokens)
    return of_labels, (of_tools.view_as(going) * going).sum() / going.sum()


def make_optimizer(policy: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Returns the optimizer of both stages."""
    return torch.optim.AdamW(policy.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)


def run_warm_start(policy: PlanPolicy, toolbox: Toolbox, source: Source, config: PlannerConfig) -> None:
    """Teaches the policy labels and plausible plans; goes on from its own checkpoint."""
    optimizer = make_optimizer(policy, config.warm_lr)
    checkpoint = config.out / "warm.pt"
    first = 0
    if (state := load_checkpoint(checkpoint, config.device)) is not None:
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    writer = SummaryWriter(str(config.out / "warm"), purge_step=first + 1)
    steps = range(first, config.warm_steps)
    seed, stage = config.seed, SeedStage.PLANNER_WARM_START
    batches = prefetch(
        lambda step: draw_samples(source, config.warm_batch, make_rng(seed, stage, step)), steps
    )
    for step, samples in zip(track(steps, description="warm start"), batches, strict=True):
        factor = warmup_cosine(step, config.warm_steps, warmup=50, final=0.1)
        set_learning_rate(optimizer, config.warm_lr * factor)
        images = observe_batch(samples, config.max_tools, policy.position.device)
        rng = make_rng(seed, stage, step, stream=1)
        of_labels, of_tools = imitation_loss(policy, images, samples, toolbox, rng, config.autocast)
        optimizer.zero_grad(set_to_none=True)
        (3 * of_labels + of_tools).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        done = step + 1
        writer.add_scalar("warm/labels", of_labels.item(), done)
        writer.add_scalar("warm/tools", of_tools.item(), done)
        if done % SAVE_EVERY == 0 or done == config.warm_steps:
            print(
                f"warm start {done}: labels {of_labels.item():.3f}, tools {of_tools.item():.3f}", flush=True
            )
            state = {"policy": policy.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            save_checkpoint(checkpoint, state)
    writer.close()
