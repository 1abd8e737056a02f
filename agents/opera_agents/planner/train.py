"""Trains the one-shot planner: a warm start from labels, then GRPO on the quality of what plans lead to.

Example:
    python -m opera_agents.planner.train --images bsds500/train --val bsds500/val --out runs/planner

Interrupt it at any time: the same command goes on from the last checkpoint and ends where it would have
ended. Curves and pictures are for tensorboard, in the same folder.

Source: section 4.2 of the paper: groups of 8, advantage (R - mean) / std, clipped ratio, no KL term,
    R = R_q R_d. Departures: a small network instead of a vision-language model, so no format and no
    judge; several epochs on each batch; see also :mod:`opera_agents.planner.grpo`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import tyro
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import draw_samples, label_targets, prefetch
from opera_agents.common.checkpoints import Budget, load_checkpoint, save_checkpoint
from opera_agents.common.photographs import training_source
from opera_agents.common.runs import claim_run_dir, set_threads
from opera_agents.common.seeds import SeedStage, make_rng, rollout_seed
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.planner import grpo
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.diagnostics import log_rollout
from opera_agents.planner.policy import PlanPolicy
from opera_agents.planner.rollout import Batch, collect_rollout
from opera_agents.planner.saved import PolicyCard, load_weights, save_policy, save_weights
from opera_agents.planner.warm_start import make_optimizer, run_warm_start
from opera_env.schedules import set_learning_rate, warmup_linear
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample


def train(config: PlannerConfig) -> ValidationResult:
    """Trains a planner; returns its last validation.

    Raises:
        AgentError: If the folder holds another run.
    """
    folder = config.out
    claim_run_dir(folder, config.settings(), mutable=("threads",))
    set_threads(config.threads)
    torch.manual_seed(config.seed)

    device = torch.device(config.device)
    toolbox = Toolbox.load(config.toolbox, device)
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=config.max_tools)
    policy = card.build().to(device)
    planner = Planner(policy, card, config.max_tools)
    enlarged = folder / "enlarged" if config.enlarged else None
    source = training_source(config.images, config.canvas, enlarged, config.clean, ratio=config.ratio)
    validate = Validation(
        config.val,
        toolbox,
        config.reward,
        config.val_count,
        config.canvas,
        config.max_tools,
        config.tool_cost,
        folder.parent if config.regret else None,
    )

    start = config.start or folder / "warm.safetensors"
    if not start.is_file():
        run_warm_start(policy, toolbox, source, config)
        save_weights(policy, start)
        save_weights(policy.detector, folder / "detector.safetensors")
    load_weights(policy.detector if start.name == "detector.safetensors" else policy, start)
    initial = copy.deepcopy(policy).eval() if config.kl else None

    scorer = PlanScorer(toolbox, config.reward)
    optimizer = make_optimizer(policy, config.lr)
    first, budget = 0, Budget()
    checkpoint = folder / "checkpoint.pt"
    if (state := load_checkpoint(checkpoint, device)) is not None:
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        first, budget = state["update"], Budget(**state["budget"])
        print(f"resuming from update {first} of {config.updates}")
    resumed_budget, start_time = budget, time.perf_counter()

    writer = SummaryWriter(str(folder), purge_step=first + 1)
    watched = validate(planner)
    log_validation(writer, watched, first)
    updates = range(first, config.updates)
    seed, stage = config.seed, SeedStage.PLANNER_GRPO
    batches = prefetch(
        lambda update: draw_samples(source, config.photographs, make_rng(seed, stage, update)), updates
    )
    for update, samples in zip(track(updates, description="GRPO"), batches, strict=True):
        factor = warmup_linear(update, config.updates, warmup=25, final=0.1)
        set_learning_rate(optimizer, config.lr * factor)
        batch = collect_rollout(planner, scorer, samples, config, seed=rollout_seed(seed, update))
        better = grpo.compute_advantages(batch.paired, config.credit)
        anchor = None if initial is None else _anchor(initial, batch, config.group)

        learned = learn(policy, optimizer, batch, samples, better, anchor, config)
        done = update + 1
        seconds = time.perf_counter() - start_time
        budget = resumed_budget.plus(scorer.images_scored, scorer.tools_run, seconds)
        log_rollout(writer, batch, samples, done, config.group, toolbox)
        for name, value in (
            *((f"grpo/{name}", value) for name, value in asdict(learned).items()),
            ("grpo/zero_spread", (better.spread < 1e-6).float().mean().item()),
            ("entropy/plan", batch.before.plan_entropy.mean().item()),
            ("entropy/labels", batch.before.label_entropy.mean().item()),
            *((f"budget/{name}", value) for name, value in asdict(budget).items()),
        ):
            writer.add_scalar(name, value, done)
        if done % config.val_every == 0 or done == config.updates:
            watched = validate(planner)
            log_validation(writer, watched, done)
            print(
                f"update {done}/{config.updates}, {budget.seconds:.0f} s: {format_validation(watched)}",
                flush=True,
            )
        if done % config.save_every == 0 or done == config.updates:
            state = {
                "policy": policy.state_dict(),
                "optimizer": optimizer.state_dict(),
                "update": done,
                "budget": asdict(budget),
            }
            save_checkpoint(checkpoint, state)

    writer.close()
    about = {**config.settings(), **asdict(budget), "val_reward": watched.reward, "val_f1": watched.f1}
    save_policy(
        policy, PolicyCard(card.signature, card.tools, max_tools=card.max_tools, training=about), folder
    )
    return watched


@dataclass(frozen=True)
class UpdateStats:
    """How the last epoch on a batch went.

    Attributes:
        loss: With the entropy and, if there is one, the divergence from the first policy.
        kl: Estimated divergence from the policy that drew the batch, in nats.
        clipped: Share of the ratios that were clipped.
        grad_norm: Before it was clipped to 1.
    """

    loss: float
    kl: float
    clipped: float
    grad_norm: float


def learn(
    policy: PlanPolicy,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    samples: Sequence[Sample],
    better: grpo.Advantages,
    anchor: Tensor | None,
    config: PlannerConfig,
) -> UpdateStats:
    """Learns from a batch, several times over."""
    truth = label_targets(samples).to(batch.images.device)
    learned = UpdateStats(0.0, 0.0, 0.0, 0.0)
    for _ in range(config.epochs):
        seen = policy.encode(batch.images).repeat_interleave(config.group, 0)
        now = policy.likelihood(seen, batch.draft)
        surrogate = grpo.surrogate(now, batch.before, better, config.clip, config.credit)
        loss = surrogate.loss - config.entropy * now.plan_entropy.mean()
        if config.labels:
            odds = policy.label_logits(seen[:: config.group])
            loss = loss + config.labels * F.binary_cross_entropy_with_logits(odds, truth)
        if anchor is not None:
            loss = loss + config.kl * grpo.approximate_kl(anchor - now.labels - now.plan).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        learned = UpdateStats(loss.item(), surrogate.kl, surrogate.clipped, norm.item())
    return learned


def _anchor(initial: PlanPolicy, batch: Batch, group: int) -> Tensor:
    """How likely the first policy was to decide so."""
    with torch.no_grad():
        likely = initial.likelihood(initial.encode(batch.images).repeat_interleave(group, 0), batch.draft)
    return likely.labels + likely.plan


if __name__ == "__main__":
    train(tyro.cli(PlannerConfig))
