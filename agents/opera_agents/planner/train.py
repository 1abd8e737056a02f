"""Trains the planner: a warm start on labels, then GRPO on the reward of its plans.

Example:
    python -m opera_agents.planner.train --images bsds500/train --val bsds500/val --out runs/planner
    python -m opera_agents.planner.train ... --table runs/table   # also imitates the best plans of a table

A run may be interrupted at any time: the same command resumes it from the last checkpoint, and it ends with
the same weights as an uninterrupted run. TensorBoard shows the curves and images in the folder of the run.

Source: section 4.2 of the paper: groups of 8, advantages (R - mean) / std, clipped ratios, no KL term,
    R = R_q R_d. Departures: a small network instead of a vision-language model, and so neither the format
    nor the consistency of an answer is rewarded; several epochs on each rollout; see also
    :mod:`opera_agents.planner.advantages` and :mod:`opera_agents.planner.loss`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from rich.progress import track
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import draw_samples, label_targets, prefetch
from opera_agents.common.checkpoints import Budget, load_checkpoint, save_checkpoint
from opera_agents.common.folders import (
    all_degradations,
    check_validation,
    identify_photographs,
    load_custom_degradations,
)
from opera_agents.common.photographs import check_photographs, training_source
from opera_agents.common.runs import set_threads
from opera_agents.common.seeds import SeedStage, make_rng, rollout_seed
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.planner.advantages import compute_advantages
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.diagnostics import log_rollout
from opera_agents.planner.imitation import load_or_run_imitation
from opera_agents.planner.loss import grpo_loss
from opera_agents.planner.policy import PlanPolicy
from opera_agents.planner.reward_table import RewardTable, load_table
from opera_agents.planner.rollout import collect_rollout
from opera_agents.planner.saved import PolicyCard, load_initial_weights, save_policy
from opera_agents.planner.table_samples import TableBatch, check_table, draw_table_batch, table_loss
from opera_agents.planner.warm_start import load_or_run_warm_start, make_optimizer
from opera_env.cli.program import run_program
from opera_env.degradations import load_degradations
from opera_env.devices import resolve_device
from opera_env.runs import (
    claim_run_dir,
    describe_progress,
    identify_file,
    identify_toolbox,
)
from opera_env.schedules import set_learning_rate, warmup_linear
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample


def train(config: PlannerConfig) -> ValidationResult:
    """Trains a planner; returns its last validation.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more updates, or with damaged files.
    """
    # Set-up: tools, policy, validation. Nothing is written before all that was named has been found.
    folder, device = config.out, torch.device(resolve_device(config.device))
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    toolbox = Toolbox.load(config.toolbox, device, config.trust_code)
    degradations = load_custom_degradations(config.images, config.degradations)
    check_validation(config.images, config.val)
    check_photographs(config.images, [config.canvas])
    labels = tuple(all_degradations(config.images, degradations))
    card = PolicyCard(toolbox.signature, toolbox.names, labels, config.max_tools, config.encoder)
    policy = card.build().to(device)
    if config.initial_weights is not None:
        load_initial_weights(policy, config.initial_weights)
    table = None if config.table is None else load_table(config.table, toolbox)
    check_table(config)
    validate = Validation(
        config.val,
        toolbox,
        config.reward,
        count=config.val_count,
        canvas=config.canvas,
        max_tools=config.max_tools,
        tool_cost=config.tool_cost,
        regret_dir=folder.parent if config.regret else None,
        degradations=degradations,
    )
    inputs = {
        "images": identify_photographs(*config.images),
        "val": identify_photographs(config.val),
        "toolbox": identify_toolbox(config.toolbox, toolbox.fingerprint),
        "initial_weights": identify_file(config.initial_weights),
        "table": None if table is None else table.content,
    }
    state = load_checkpoint(folder / "checkpoint.pt", device)
    progress = describe_progress(folder, state["update"] if state else 0, config.updates, "updates")
    with claim_run_dir(folder, config.settings() | inputs, mutable=("threads", "updates")):
        if progress is not None:
            print(progress)
        return run_updates(config, toolbox, policy, card, table, validate, state)


def run_updates(
    config: PlannerConfig,
    toolbox: Toolbox,
    policy: PlanPolicy,
    card: PolicyCard,
    table: RewardTable | None,
    validate: Validation,
    state: Mapping[str, Any] | None,
) -> ValidationResult:
    """Trains a policy in the folder of its run; returns its last validation.

    Args:
        config: The settings.
        toolbox: The tools.
        policy: The policy, with the given initial weights, or random ones for the warm start.
        card: What the policy is trained for.
        table: Rewards of candidate plans for the imitation and for a fraction of each update; None leaves
            both out.
        validate: The validation set.
        state: The checkpoint to resume from; None starts with the first update.
    """
    folder, seed, device = config.out, config.seed, torch.device(resolve_device(config.device))
    source = training_source(
        config.images,
        config.canvas,
        folder / "enlarged" if config.enlarged else None,
        config.clean_weight,
        degradation_count_weights=config.degradation_count_weights,
        degradations=load_degradations(config.degradations),
        benchmark_fraction=config.benchmark_fraction,
    )
    if config.initial_weights is None:
        load_or_run_warm_start(policy, toolbox, source, config)
    if table is not None:
        load_or_run_imitation(policy, toolbox, source, table, config)
    reference_policy = copy.deepcopy(policy).eval() if config.kl_coef else None

    # The state of the run, from its checkpoint if there is one.
    planner, scorer = Planner(policy, card, config.max_tools), PlanScorer(toolbox, config.reward)
    sampling_planner = Planner(policy, card, config.max_tools, seed=0)
    optimizer = make_optimizer(policy, config.lr)
    start_update, budget = 0, Budget()
    if state is not None:
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        start_update, budget = state["update"], Budget(**state["budget"])
    resumed_budget, start_time = budget, time.perf_counter()
    writer = SummaryWriter(str(folder), purge_step=start_update + 1)
    result = validate(planner, sampling_planner)
    log_validation(writer, result, start_update)

    def draw_batch(update: int) -> tuple[list[Sample], TableBatch | None]:
        rng = make_rng(seed, SeedStage.PLANNER_GRPO, update)
        samples = draw_samples(source, config.batch_size - config.num_table_samples, rng)
        if table is None or not config.num_table_samples:
            return samples, None
        return samples, draw_table_batch(table, source, rng, config, device)

    updates = range(start_update, config.updates)
    batches = prefetch(draw_batch, updates)
    progress_bar = track(updates, description="GRPO", disable=not updates)
    for update, (samples, table_batch) in zip(progress_bar, batches, strict=True):
        # Rollout: a group of decisions for each sample, run and scored.
        rollout = collect_rollout(planner, scorer, samples, config, rollout_seed(seed, update))

        # Advantages within each group, and the reference policy's log-probabilities.
        advantages = compute_advantages(rollout.pair_rewards, config.credit_assignment)
        true_labels = label_targets(samples, card.degradations).to(device)
        reference_log_probs = None
        if reference_policy is not None:
            with torch.no_grad():
                features = reference_policy.encode(rollout.images).repeat_interleave(config.group_size, 0)
                reference = reference_policy.evaluate_actions(features, rollout.sampled_plans)
                reference_log_probs = reference.label_log_prob + reference.plan_log_prob

        # Loss and optimizer step, several epochs over the rollout. The loss is the mean over the samples.
        factor = warmup_linear(update, config.updates, warmup=25, final=0.1)
        set_learning_rate(optimizer, config.lr * factor)
        scalars: dict[str, float] = {}
        for _ in range(config.n_epochs):
            features = policy.encode(rollout.images).repeat_interleave(config.group_size, 0)
            new_log_probs = policy.evaluate_actions(features, rollout.sampled_plans)
            loss = grpo_loss(
                new_log_probs,
                rollout.old_log_probs,
                advantages,
                clip_range=config.clip_range,
                credit_assignment=config.credit_assignment,
                ent_coef=config.ent_coef,
                label_coef=config.label_coef,
                label_logits=policy.label_logits(features[:: config.group_size]),
                true_labels=true_labels,
                kl_coef=config.kl_coef,
                reference_log_probs=reference_log_probs,
            )
            scalars = {f"train/{name}": value for name, value in loss.scalars().items()}
            batch_loss = loss.loss
            if table_batch is not None:
                exact_loss, table_reward = table_loss(
                    policy, table_batch, card.degradations, config.label_coef
                )
                share = config.num_table_samples / config.batch_size
                batch_loss = (1 - share) * loss.loss + share * exact_loss
                scalars["train/table_reward"] = table_reward.item()
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()
            grad_norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            scalars["train/grad_norm"] = grad_norm.item()

        # Log.
        global_step, seconds = update + 1, time.perf_counter() - start_time
        budget = resumed_budget.plus(scorer.images_scored, scorer.tools_run, seconds)
        scalars |= {
            "train/lr": config.lr * factor,
            "train/plan_entropy": rollout.old_log_probs.plan_entropy.mean().item(),
            "train/label_entropy": rollout.old_log_probs.label_entropy.mean().item(),
            "train/frac_reward_zero_std": (advantages.reward_std < 1e-6).float().mean().item(),
            **{f"budget/{name}": value for name, value in asdict(budget).items()},
        }
        for name, value in scalars.items():
            writer.add_scalar(name, value, global_step)
        log_rollout(writer, rollout, samples, global_step, config.group_size, toolbox)

        # Validate and save.
        is_last = global_step == config.updates
        if global_step % config.val_every == 0 or is_last:
            result = validate(planner, sampling_planner)
            log_validation(writer, result, global_step)
            text = format_validation(result)
            print(f"update {global_step}/{config.updates}, {budget.seconds:.0f} s: {text}", flush=True)
        if global_step % config.save_every == 0 or is_last:
            state = {"policy": policy.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"update": global_step, "budget": asdict(budget)}
            save_checkpoint(folder / "checkpoint.pt", state)

    writer.close()
    results = {**asdict(budget), "val_reward": result.reward, "val_f1": result.f1}
    save_policy(policy, replace(card, training={**config.settings(), **results}), folder)
    return result


if __name__ == "__main__":
    run_program(PlannerConfig, train)
