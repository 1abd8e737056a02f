"""Collects the critic's training data: images at every stage of restoration, with their R_q.

Example:
    python -m opera_agents.critic.collect --images bsds500/train --out runs/critic/data

The run may be interrupted at any time: the same command resumes with the first missing shard. Each shard is
a function of the settings and of its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from opera_agents.common.batches import draw_samples
from opera_agents.common.folders import identify_photographs, is_real, load_custom_degradations
from opera_agents.common.photographs import (
    check_photographs,
    enlarge_photographs,
    list_photographs,
    name_folders,
    photographs_source,
    real_source,
)
from opera_agents.common.runs import run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.common.shards import collect_shards
from opera_agents.critic.dataset import ScoredImages
from opera_agents.critic.plans import draw_plans
from opera_agents.critic.recipes import train_recipes
from opera_env.cli.program import run_program
from opera_env.cluster import Cluster
from opera_env.data import Source
from opera_env.degradations import Recipe
from opera_env.reward import get_reward
from opera_env.runs import (
    NonNegativeInt,
    PositiveInt,
    Probability,
    check_settings,
    identify_toolbox,
)
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

DEGRADATION_COUNT_WEIGHTS = {0: 1, 1: 2, 2: 4, 3: 5}
"""Sampling weights of photographs with none, one, two and three degradations."""

_CHUNK_SIZE = 50
"""Samples that are scored in one call: enough for full batches, few enough for the memory."""


@dataclass(frozen=True)
class CollectConfig:
    """Collects images and their R_q in shards."""

    images: tuple[Path, ...]
    """Folders of clean photographs, all at least as large as the crops; real:FOLDER for damage as cameras
    make it."""
    out: Path = Path("runs/critic/data")
    """Folder of the shards."""
    shards: PositiveInt = 8
    """Number of shards."""
    samples: PositiveInt = 200
    """Number of samples in a shard, each with about ten images."""
    recipes: tuple[Recipe, ...] | None = None
    """Recipes of the samples; by default the training recipes that are not held out, and the empty one;
    for real:FOLDER the rule of real damage."""
    num_plausible_plans: NonNegativeInt = 2
    """Number of perturbed plausible plans for each sample; the results of all their prefixes are collected
    too."""
    num_random_plans: NonNegativeInt = 1
    """Number of random plans of up to six tools for each sample."""
    enlarged_fraction: Probability = 0.2
    """Fraction of samples from enlarged photographs, which are soft although they are clean."""
    canvas: PositiveInt = 128
    """Side of the images in pixels."""
    reward: str = "lite"
    """Reward that computes R_q: a preset, or module:attribute, a reward of your own."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The training
    recipes and the held-out recipes then contain them too."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    threads: PositiveInt = 1
    """Number of CPU threads."""
    ray: str | None = None
    """Collect on a Ray cluster: its address, auto for the one of this machine, or local for processes on
    this machine. Every machine needs the same folders."""
    ray_workers: PositiveInt | None = None
    """Number of worker processes; by default one for each free core."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)


def score_plans(
    scorer: PlanScorer, samples: Sequence[Sample], plans: Sequence[Sequence[Plan]]
) -> Iterator[ScoredImages]:
    """Scores several plans of each sample, and the reference itself; yields one data set per sample.

    Args:
        scorer: A scorer whose reward compares results with the reference.
        samples: Samples of one canvas, with references.
        plans: The plans of each sample.
    """
    for start in range(0, len(samples), _CHUNK_SIZE):
        chunk = list(zip(samples, plans, strict=True))[start : start + _CHUNK_SIZE]
        requests: list[tuple[Sample, Plan]] = []
        for sample, sample_plans in chunk:
            assert sample.reference is not None
            requests += [
                (replace(sample, lq=sample.reference), ()),
                *((sample, plan) for plan in sample_plans),
            ]
        results = iter(scorer.score([sample for sample, _ in requests], [plan for _, plan in requests]))
        for sample, sample_plans in chunk:
            outcomes = [next(results) for _ in range(len(sample_plans) + 1)]
            yield ScoredImages(
                torch.stack([outcome.restored for outcome in outcomes if outcome.restored is not None]),
                torch.tensor([list(outcome.terms.values()) for outcome in outcomes]),
                torch.zeros(len(outcomes), dtype=torch.int64),
                torch.arange(len(outcomes)) == 0,
                (sample.spec.recipe,),
            )


def collect(config: CollectConfig) -> list[Path]:
    """Collects the missing shards; returns the paths of all shards.

    Raises:
        RunError: If another process collects in the folder, or the folder holds shards that were collected
            with other settings.
    """
    get_reward(config.reward)
    toolbox = Toolbox.load(config.toolbox, trust_code=config.trust_code)
    custom_degradations = load_custom_degradations(config.images, config.degradations)
    recipes = train_recipes(custom_degradations) if config.recipes is None else config.recipes
    check_photographs(config.images, [config.canvas])
    folders = name_folders(config.images)

    def make_source(photographs: Sequence[tuple[str, Path]]) -> Source:
        if is_real(config.images):
            return real_source(photographs, folders, config.canvas, config.recipes)
        return photographs_source(
            photographs, folders, config.canvas, recipes, DEGRADATION_COUNT_WEIGHTS, custom_degradations
        )

    def prepare() -> Callable[[int], ScoredImages]:
        set_threads(config.threads)
        scorer = PlanScorer(toolbox, config.reward)
        enlarged_source = source
        if config.enlarged_fraction > 0:
            enlarged_source = make_source(enlarge_photographs(folders, config.out / "enlarged"))
        return partial(collect_shard, config, scorer, source, enlarged_source)

    source = make_source(list_photographs(folders))
    inputs = {
        "images": identify_photographs(*config.images),
        "toolbox": identify_toolbox(config.toolbox, toolbox.fingerprint),
    }
    settings = run_settings(config, exclude=("out", "shards", "threads", "ray", "ray_workers"), **inputs)
    cluster = None if config.ray is None else Cluster(config.ray, config.ray_workers)
    return collect_shards(config.out, settings, config.shards, prepare, cluster)


def collect_shard(
    config: CollectConfig, scorer: PlanScorer, source: Source, enlarged_source: Source, number: int
) -> ScoredImages:
    """Collects a shard.

    Args:
        config: The settings.
        scorer: Scores the plans.
        source: The photographs.
        enlarged_source: Enlarged photographs, or the same ones.
        number: Number of the shard.
    """
    rng = make_rng(config.seed, SeedStage.CRITIC_COLLECTION, number)
    samples: list[Sample] = []
    for _ in range(config.samples):
        sample_source = enlarged_source if rng.random() < config.enlarged_fraction else source
        samples += draw_samples(sample_source, 1, rng)
    counts = config.num_plausible_plans, config.num_random_plans
    plans = [
        draw_plans(scorer.toolbox, sample.degradations or frozenset(), rng, *counts, source.degradations)
        for sample in samples
    ]
    return ScoredImages.concat(list(score_plans(scorer, samples, plans)))


if __name__ == "__main__":
    run_program(CollectConfig, collect)
