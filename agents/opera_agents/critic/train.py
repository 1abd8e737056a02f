"""Trains the critic: what R_q says, seen without the reference.

Example:
    python -m opera_agents.critic.train --images bsds500/train --val bsds500/val --out runs/critic

Collects what it learns from first, if that is not there. Interrupt it at any time: the same command goes on
from the last checkpoint and ends where it would have ended. Curves are for tensorboard, in the same folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.runs import claim_run_dir, folder_name, load_encoder, run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.critic.collect import CollectConfig, ScoredImages, collect, held_out_recipes
from opera_agents.critic.rank import RankingMetrics, ranking_metrics_per_sample
from opera_env.degradations import BENCHMARK_GROUPS
from opera_env.devices import supports_bfloat16
from opera_env.errors import AgentError
from opera_env.metrics.critic import NO_REFERENCE_METRICS, CriticNet, CriticTerm, save_critic
from opera_env.reward import get_reward
from opera_env.schedules import set_learning_rate, warmup_cosine


@dataclass(frozen=True)
class CriticConfig:
    """How the critic is trained."""

    images: Path
    """Folder of clean photographs to train on."""
    val: Path
    """Folder of clean photographs to watch it on, with recipes that it is not trained on."""
    out: Path = Path("runs/critic")
    """Everything is written here; what it learns from to OUT/train and OUT/val."""
    encoder: Path | None = None
    """Encoder weights to start from: safetensors with the keys encoder.*, as the detector's."""
    shards: int = 24
    """Shards to learn from."""
    samples: int = 200
    """Degraded photographs per shard; of each about ten images."""
    val_samples: int = 100
    """Degraded photographs to watch it on."""
    steps: int = 6_000
    """Training steps."""
    groups: int = 6
    """Photographs per step."""
    results: int = 4
    """Images of each of them."""
    cut: int | None = 96
    """Side of random cuts that are shown instead of whole images, the same place of all images of a
    photograph: quicker, and more of them; None shows whole images."""
    lr: float = 2e-3
    """Peak learning rate; falls to zero by a cosine."""
    warmup: int = 100
    """Steps of linear warm-up."""
    ranking: float = 1.0
    """Weight of the order among images of one photograph, beside the values themselves."""
    temperature: float = 0.5
    """How far apart in R_q two images must be for their order to matter fully."""
    autocast: bool = supports_bfloat16()
    """Compute in bfloat16 while training, where that is fast."""
    val_every: int = 500
    """Validate and checkpoint every this many steps."""
    canvas: int = 128
    """Side of the images."""
    reward: str = "lite"
    """What is distilled: a reward between 0 and 10."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    seed: int = 0
    threads: int = 1
    """CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class CriticValidation:
    """How the critic does on photographs and recipes it was not trained on.

    Attributes:
        error: Mean distance to R_q.
        ranking: The mean over photographs.
    """

    error: float
    ranking: RankingMetrics


def critic_loss(
    said: Tensor,
    terms: Tensor,
    sample: Tensor,
    computed: Tensor,
    ranking: float = 1.0,
    temperature: float = 0.5,
) -> Tensor:
    """Compares terms and their sum, R_q, with what is right, and the order among images of one photograph.

    Args:
        said: What the critic says of each term, (N, T).
        terms: What is right, (N, T).
        sample: Which photograph each image is of, (N,).
        computed: Which terms the critic need not guess, bool (T,): they are right in the sum.
        ranking: Weight of the order: cross entropy of which of two images is the better one.
        temperature: Difference in R_q that makes one of two images the better one with 73 %.
    """
    values, r_q = torch.where(computed, terms, said).sum(1), terms.sum(1)
    loss = F.smooth_l1_loss(values, r_q) + (said - terms).abs().sum(1).mean()
    first, second = torch.triu_indices(len(values), len(values), 1, device=values.device)
    pair = sample[first] == sample[second]
    first, second = first[pair], second[pair]
    if not len(first):
        return loss
    better = ((r_q[first] - r_q[second]) / temperature).sigmoid()
    judged = (values[first] - values[second]) / temperature
    return loss + ranking * F.binary_cross_entropy_with_logits(judged, better)


def sample_batch(
    judged: ScoredImages, rows: Sequence[Tensor], config: CriticConfig, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws several images of each of several photographs: a function of the seed and the step.

    Args:
        judged: What there is.
        rows: Its rows by sample.
        config: How many of which.
        step: Of the training.

    Returns:
        Images float32 (N, 3, H, W) in [0, 1], terms (N, T) and sample (N,).
    """
    rng = make_rng(config.seed, SeedStage.CRITIC_TRAINING, step)
    images: list[Tensor] = []
    chosen: list[Tensor] = []
    for number in rng.choice(len(rows), min(config.groups, len(rows)), replace=False):
        mine = rows[number][torch.from_numpy(rng.permutation(len(rows[number]))[: config.results])]
        some = judged.images[mine]
        if config.cut is not None:
            top, left = (int(rng.integers(max(0, side - config.cut) + 1)) for side in some.shape[-2:])
            some = some[..., top : top + config.cut, left : left + config.cut]
        images.append(some.flip(-1) if rng.random() < 0.5 else some)
        chosen.append(mine)
    index = torch.cat(chosen)
    return torch.cat(images).to(torch.float32) / 255, judged.terms[index], judged.sample[index]


@torch.inference_mode()
def watch(net: CriticNet, judged: ScoredImages, computed: Tensor, device: torch.device) -> CriticValidation:
    """Measures the critic on results it was not trained on."""
    net.eval()
    parts = [net(part.to(device, torch.float32) / 255).cpu() for part in judged.images.split(32)]
    net.train()
    values = torch.where(computed.cpu(), judged.terms, torch.cat(parts)).sum(1)
    found = ranking_metrics_per_sample(judged, values.double().numpy())
    mean = {name: float(np.mean([asdict(one)[name] for one in found])) for name in asdict(found[0])}
    return CriticValidation((values - judged.r_q).abs().mean().item(), RankingMetrics(**mean))


def train(config: CriticConfig) -> CriticValidation:
    """Trains a critic; returns how it does in the end.

    Raises:
        AgentError: If the folder holds another run, or the reward has no bounds.
    """
    reward, folder = get_reward(config.reward), config.out
    if not all(term.clip for term in reward.terms):
        raise AgentError(
            f"the reward {reward.name!r} has terms without bounds, which no critic has: train it "
            "on lite, classic or another reward whose terms are clipped."
        )
    claim_run_dir(folder, _settings(config))
    judged, held_out = _load_data(config)
    rows = list(torch.split(torch.arange(len(judged.sample)), torch.bincount(judged.sample).tolist()))

    set_threads(config.threads)
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    parts = [CriticTerm(term.name, term.low, term.high, term.weight) for term in reward.terms]
    computed = torch.tensor([part.metric in NO_REFERENCE_METRICS for part in parts], device=device)
    net = CriticNet([part.weight for part in parts])
    if config.encoder is not None:
        load_encoder(net.encoder, config.encoder)
    net = net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(net.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=0.01)
    first, seconds = 0, 0.0
    checkpoint = folder / "checkpoint.pt"
    if (state := load_checkpoint(checkpoint, device)) is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["step"], state["seconds"]
        print(f"resuming from step {first} of {config.steps}")
    begin = time.perf_counter() - seconds

    writer = SummaryWriter(str(folder), purge_step=first + 1)
    watched: CriticValidation | None = None
    for step in track(range(first, config.steps), description="critic"):
        set_learning_rate(optimizer, config.lr * warmup_cosine(step, config.steps, config.warmup))
        images, terms, sample = (part.to(device) for part in sample_batch(judged, rows, config, step))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast):
            said = net(images).float()
        loss = critic_loss(said, terms, sample, computed, config.ranking, config.temperature)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

        done = step + 1
        if done % 20 == 0:
            writer.add_scalar("train/loss", loss.item(), done)
            error = (said.detach() - terms).abs().sum(1).mean()
            writer.add_scalar("train/error", error.item(), done)
            writer.add_scalar("train/grad_norm", norm.item(), done)
        if done % config.val_every == 0 or done == config.steps:
            seconds = time.perf_counter() - begin
            watched = watch(net, held_out, computed, device)
            _log(writer, watched, done)
            print(f"step {done}/{config.steps}, {seconds:.0f} s: {_line(watched)}", flush=True)
            state = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
                "seconds": seconds,
            }
            save_checkpoint(checkpoint, state)
    writer.close()
    watched = watched or watch(net, held_out, computed, device)
    found = {"seconds": round(seconds), "error": watched.error, **asdict(watched.ranking)}
    save_critic(net, parts, folder / "critic.safetensors", _settings(config) | found)
    return watched


def _load_data(config: CriticConfig) -> tuple[ScoredImages, ScoredImages]:
    """Reads what to learn from and what to be watched on; collects what is missing."""
    shared = {name: getattr(config, name) for name in ("canvas", "reward", "toolbox", "seed", "threads")}
    learned = CollectConfig(
        config.images, config.out / "train", shards=config.shards, samples=config.samples, **shared
    )
    benchmark = (recipe for recipes in BENCHMARK_GROUPS.values() for recipe in recipes)
    watched = CollectConfig(
        config.val,
        config.out / "val",
        shards=1,
        samples=config.val_samples,
        recipes=tuple(dict.fromkeys((*held_out_recipes(), *benchmark))),
        enlarged=0.0,
        **shared,
    )
    learn, watch = (
        ScoredImages.join([ScoredImages.load(path) for path in collect(which)])
        for which in (learned, watched)
    )
    return learn, watch


def _settings(config: CriticConfig) -> dict[str, Any]:
    """What decides the result, without the places where things lie."""
    return run_settings(
        config,
        exclude=("out", "device", "threads"),
        images=folder_name(config.images),
        val=folder_name(config.val),
        encoder=None if config.encoder is None else config.encoder.name,
    )


def _log(writer: SummaryWriter, watched: CriticValidation, step: int) -> None:
    for name, value in {"error": watched.error, **asdict(watched.ranking)}.items():
        writer.add_scalar(f"val/{name}", value, step)


def _line(watched: CriticValidation) -> str:
    one = watched.ranking
    return (
        f"error {watched.error:.2f}, spearman {one.spearman:.3f}, clean first {one.reference_first:.0%}, "
        f"regret {one.regret:.2f}"
    )


if __name__ == "__main__":
    train(tyro.cli(CriticConfig))
