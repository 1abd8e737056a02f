"""Trains the critic, which predicts R_q without a reference.

Example:
    python -m opera_agents.critic.train --images bsds500/train --val bsds500/val --out runs/critic

Missing training data is collected first. The run may be interrupted at any time: the same command resumes
from the last checkpoint and ends exactly as an uninterrupted run. Scalars for TensorBoard are in the same
folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.folders import (
    check_validation,
    identify_photographs,
    is_real,
    load_custom_degradations,
)
from opera_agents.common.photographs import check_photographs
from opera_agents.common.runs import load_encoder, set_threads
from opera_agents.critic.collect import CollectConfig, collect
from opera_agents.critic.config import CriticConfig
from opera_agents.critic.dataset import ScoredImages, sample_batch
from opera_agents.critic.loss import critic_loss
from opera_agents.critic.ranking import RankingMetrics, ranking_metrics_per_sample
from opera_agents.critic.recipes import held_out_recipes
from opera_env.cli.program import run_program
from opera_env.degradations import BENCHMARK_GROUPS, load_degradations
from opera_env.devices import resolve_device
from opera_env.errors import AgentError
from opera_env.metrics.critic import NO_REFERENCE_METRICS, CriticNet, CriticTerm, save_critic
from opera_env.reward import Reward, get_reward
from opera_env.runs import (
    claim_run_dir,
    describe_progress,
    identify_file,
    identify_toolbox,
)
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class CriticValidation:
    """Validation of a critic, on photographs and recipes outside of its training.

    Attributes:
        mae: Mean absolute error of the predicted R_q.
        ranking: Mean ranking metrics over the samples.
    """

    mae: float
    ranking: RankingMetrics


@torch.inference_mode()
def validate(
    net: CriticNet, scored_images: ScoredImages, computed_mask: Tensor, device: torch.device
) -> CriticValidation:
    """Validates a critic.

    Args:
        net: The network.
        scored_images: The validation data.
        computed_mask: Terms that are computed and not predicted, bool (T,).
        device: Device of the network.
    """
    net.eval()
    batches = [net(batch.to(device, torch.float32) / 255).cpu() for batch in scored_images.images.split(32)]
    net.train()
    values = torch.where(computed_mask.cpu(), scored_images.terms, torch.cat(batches)).sum(1)
    per_sample = ranking_metrics_per_sample(scored_images, values.double().numpy())
    means = {
        name: float(np.mean([asdict(metrics)[name] for metrics in per_sample]))
        for name in asdict(per_sample[0])
    }
    return CriticValidation((values - scored_images.r_q).abs().mean().item(), RankingMetrics(**means))


def train(config: CriticConfig) -> CriticValidation:
    """Trains a critic and returns its last validation.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more steps, or with damaged files.
        AgentError: If the reward has terms without bounds.
    """
    # Set-up: reward, network. Nothing is written before all that was named has been found.
    reward = get_reward(config.reward)
    if not all(term.clip for term in reward.terms):
        raise AgentError(
            f"the reward {reward.name!r} has terms without bounds, which a critic cannot predict: train it "
            "on lite, classic or another reward whose terms are clipped."
        )
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    net = CriticNet([term.weight for term in reward.terms])
    if config.encoder is not None:
        load_encoder(net.encoder, config.encoder)
    inputs = {
        "images": identify_photographs(*config.images),
        "val": identify_photographs(config.val),
        "toolbox": identify_toolbox(
            config.toolbox, Toolbox.load(config.toolbox, trust_code=config.trust_code).fingerprint
        ),
        "encoder": identify_file(config.encoder),
    }
    state = load_checkpoint(config.out / "checkpoint.pt", resolve_device(config.device))
    progress = describe_progress(config.out, state["step"] if state else 0, config.steps, "steps")
    load_custom_degradations(config.images, config.degradations)
    check_validation(config.images, config.val)
    check_photographs(config.images, [config.canvas])
    check_photographs([config.val], [config.canvas])
    with claim_run_dir(config.out, config.settings() | inputs, mutable=("steps",)):
        if progress is not None:
            print(progress)
        return run_steps(config, reward, net, state)


def run_steps(
    config: CriticConfig, reward: Reward, net: CriticNet, state: Mapping[str, Any] | None
) -> CriticValidation:
    """Trains a network in the folder of its run; returns the last validation.

    Args:
        config: The settings.
        reward: The reward that is predicted.
        net: The network, with its initial weights.
        state: The checkpoint to resume from; None starts with the first step.
    """
    train_set, val_set = load_data(config)
    rows_by_sample = list(
        torch.split(
            torch.arange(len(train_set.sample_index)), torch.bincount(train_set.sample_index).tolist()
        )
    )
    device = torch.device(resolve_device(config.device))
    critic_terms = [CriticTerm(term.name, term.low, term.high, term.weight) for term in reward.terms]
    computed_mask = torch.tensor(
        [term.metric in NO_REFERENCE_METRICS for term in critic_terms], device=device
    )
    net = net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(net.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=0.01)
    start_step, seconds = 0, 0.0
    if state is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        start_step, seconds = state["step"], state["seconds"]
    start_time = time.perf_counter() - seconds

    writer = SummaryWriter(str(config.out), purge_step=start_step + 1)
    result: CriticValidation | None = None
    steps = range(start_step, config.steps)
    for step in track(steps, description="critic", disable=not steps):
        set_learning_rate(optimizer, config.lr * warmup_cosine(step, config.steps, config.warmup_steps))
        batch = sample_batch(train_set, rows_by_sample, config, step)
        images, terms, sample_index = (tensor.to(device) for tensor in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast):
            predicted_terms = net(images).float()
        loss = critic_loss(
            predicted_terms, terms, sample_index, computed_mask, config.ranking_coef, config.temperature
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

        global_step = step + 1
        if global_step % 20 == 0:
            writer.add_scalar("train/loss", loss.item(), global_step)
            term_mae = (predicted_terms.detach() - terms).abs().sum(1).mean()
            writer.add_scalar("train/term_mae", term_mae.item(), global_step)
            writer.add_scalar("train/grad_norm", grad_norm.item(), global_step)
        if global_step % config.val_every == 0 or global_step == config.steps:
            seconds = time.perf_counter() - start_time
            result = validate(net, val_set, computed_mask, device)
            _log_validation(writer, result, global_step)
            print(
                f"step {global_step}/{config.steps}, {seconds:.0f} s: {_format_validation(result)}",
                flush=True,
            )
            state = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": global_step,
                "seconds": seconds,
            }
            save_checkpoint(config.out / "checkpoint.pt", state)
    writer.close()
    result = result or validate(net, val_set, computed_mask, device)
    training = {"seconds": round(seconds), "mae": result.mae, **asdict(result.ranking)}
    save_critic(net, critic_terms, config.out / "critic.safetensors", config.settings() | training)
    return result


def load_data(config: CriticConfig) -> tuple[ScoredImages, ScoredImages]:
    """Returns the training data and the validation data; missing shards are collected first."""
    names = ("canvas", "reward", "degradations", "toolbox", "trust_code", "seed", "threads")
    shared = {name: getattr(config, name) for name in names}
    train_config = CollectConfig(
        config.images, config.out / "train", shards=config.shards, samples=config.samples, **shared
    )
    held_out = held_out_recipes(degradations=load_degradations(config.degradations))
    benchmark = (recipe for recipes in BENCHMARK_GROUPS.values() for recipe in recipes)
    val_config = CollectConfig(
        (config.val,),
        config.out / "val",
        shards=1,
        samples=config.val_count,
        recipes=None if is_real(config.images) else tuple(dict.fromkeys((*held_out, *benchmark))),
        enlarged_fraction=0.0,
        **shared,
    )
    return _load_shards(collect(train_config)), _load_shards(collect(val_config))


def _load_shards(paths: list[Path]) -> ScoredImages:
    return ScoredImages.concat([ScoredImages.load(path) for path in paths])


def _log_validation(writer: SummaryWriter, result: CriticValidation, step: int) -> None:
    for name, value in {"mae": result.mae, **asdict(result.ranking)}.items():
        writer.add_scalar(f"val/{name}", value, step)


def _format_validation(result: CriticValidation) -> str:
    ranking = result.ranking
    return (
        f"MAE {result.mae:.2f}, Spearman {ranking.spearman:.3f}, reference first "
        f"{ranking.reference_first:.0%}, regret {ranking.regret:.2f}"
    )


if __name__ == "__main__":
    run_program(CriticConfig, train)
