"""The planner's warm start: supervised training on true degradations and on plausible plans for them.

No tool runs. The paper starts from a vision-language model that has learned about image quality and can
read what the tools are for; this small network starts with random weights and learns both from examples.
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
from opera_agents.planner.saved import load_weights, save_weights
from opera_env.data import Source
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, MissingWeightsError, WeightsIntegrityError, error_message
from opera_env.plan import PlanCodec
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tools import Toolbox
from opera_env.types import Sample

CHECKPOINT_INTERVAL = 100
"""Steps between checkpoints."""

_LABEL_COEF = 3
"""Coefficient of the label loss; that of the tool loss is 1."""


def imitation_loss(
    policy: PlanPolicy,
    images: Tensor,
    samples: Sequence[Sample],
    toolbox: Toolbox,
    rng: Generator,
    autocast: bool = False,
    labels: Sequence[str] = DEGRADATIONS,
) -> tuple[Tensor, Tensor]:
    """Computes the cross-entropy of the true labels and of the tokens of plausible plans.

    Args:
        policy: The policy.
        images: The observed images, float32 (B, 3, H, W).
        samples: The samples that they show.
        toolbox: The tools.
        rng: Draws a plausible plan for each sample.
        autocast: Whether the encoder computes in bfloat16.
        labels: All degradations, in the order of the policy's labels.

    Returns:
        The label loss and the tool loss, scalars.
    """
    codec = PlanCodec(toolbox.names, policy.max_tools)
    plans = [
        plausible_plan(toolbox, sample.degradations or frozenset(), rng, policy.max_tools, labels=labels)
        for sample in samples
    ]
    tokens = torch.from_numpy(np.stack([codec.encode(plan) for plan in plans])).to(images.device)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        features = policy.encode(images)
    features = features.float()
    label_logits = policy.label_logits(features)
    targets = label_targets(samples, labels).to(label_logits)
    label_loss = F.binary_cross_entropy_with_logits(label_logits, targets)
    tool_logits = policy.tool_logits(features, tokens[:, :-1])
    token_losses = F.cross_entropy(tool_logits.flatten(0, 1), tokens.flatten(), reduction="none")
    mask = completion_mask(tokens)
    return label_loss, (token_losses.view_as(mask) * mask).sum() / mask.sum()


def make_optimizer(policy: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Returns the optimizer of the warm start and of GRPO."""
    return torch.optim.AdamW(policy.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)


def load_or_run_warm_start(
    policy: PlanPolicy, toolbox: Toolbox, source: Source, config: PlannerConfig
) -> None:
    """Gives the policy the weights of the warm start, which runs unless the folder has its result.

    A damaged result is written again, with a notice: it follows from the checkpoint of the warm start.
    """
    path = config.out / "warm.safetensors"
    try:
        load_weights(policy, path)
        return
    except MissingWeightsError:
        pass
    except (WeightsIntegrityError, AgentError) as error:
        print(f"{error_message(error)} It is written again from the checkpoint of the warm start.")
    run_warm_start(policy, toolbox, source, config)
    save_weights(policy.detector, config.out / "detector.safetensors")
    save_weights(policy, path)  # last: where it exists, the detector does too
    load_weights(policy, path)  # rounded to float16, as other runs that start from the file


def run_warm_start(policy: PlanPolicy, toolbox: Toolbox, source: Source, config: PlannerConfig) -> None:
    """Trains the policy on labels and plausible plans; resumes from its own checkpoint."""
    optimizer = make_optimizer(policy, config.warm_start_lr)
    checkpoint, start_step = config.out / "warm.pt", 0
    if (state := load_checkpoint(checkpoint, config.device)) is not None:
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        start_step = state["step"]
        print(f"resuming the warm start after {start_step} of {config.warm_start_steps} steps")
    writer = SummaryWriter(str(config.out / "warm"), purge_step=start_step + 1)
    num_steps, seed, stage = config.warm_start_steps, config.seed, SeedStage.PLANNER_WARM_START
    steps = range(start_step, num_steps)
    batches = prefetch(
        lambda step: draw_samples(source, config.warm_start_batch_size, make_rng(seed, stage, step)), steps
    )
    progress_bar = track(steps, description="warm start", disable=not steps)
    for step, samples in zip(progress_bar, batches, strict=True):
        factor = warmup_cosine(step, num_steps, warmup=50, final=0.1)
        set_learning_rate(optimizer, config.warm_start_lr * factor)
        images = observe_batch(samples, config.max_tools, policy.position.device)
        rng = make_rng(seed, stage, step, stream=1)
        label_loss, tool_loss = imitation_loss(
            policy, images, samples, toolbox, rng, config.autocast, source.degradations
        )
        optimizer.zero_grad(set_to_none=True)
        (_LABEL_COEF * label_loss + tool_loss).backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()

        global_step, losses = step + 1, {"label_loss": label_loss.item(), "tool_loss": tool_loss.item()}
        for name, value in losses.items():
            writer.add_scalar(f"warm_start/{name}", value, global_step)
        if global_step % CHECKPOINT_INTERVAL == 0 or global_step == num_steps:
            text = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
            print(f"warm start {global_step}/{num_steps}: {text}", flush=True)
            optimizer_state = optimizer.state_dict()
            save_checkpoint(
                checkpoint,
                {"policy": policy.state_dict(), "optimizer": optimizer_state, "step": global_step},
            )
    writer.close()
