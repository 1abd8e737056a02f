"""Makes what the critic learns from: images at every stage of being restored, and their R_q.

Example:
    python -m opera_agents.critic.collect --images bsds500/train --out runs/critic/data

Interrupt it at any time: the same command goes on with the first shard that is missing. A shard is a
function of the settings and its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.random import Generator
from rich.progress import track
from torch import Tensor

from opera_agents.common.batches import draw_samples
from opera_agents.common.photographs import ENLARGE_EVERY, write_enlarged
from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.common.runs import claim_run_dir, run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_env.data import clean_folder
from opera_env.data.images import list_images
from opera_env.degradations import BENCHMARK_GROUPS, TRAINING_RECIPES, Recipe, benchmark_recipes
from opera_env.files import atomic_write
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

DEGRADATION_COUNT_WEIGHTS = {0: 1, 1: 2, 2: 4, 3: 5}
"""How often a photograph has none, one, two or three degradations."""

_CHUNK_SIZE = 50
"""Samples scored in one call: enough for full batches, few enough to be kept in memory."""


@dataclass(frozen=True)
class CollectConfig:
    """What is collected."""

    images: Path
    """Folder of clean photographs."""
    out: Path = Path("runs/critic/data")
    """Shards are written here."""
    shards: int = 8
    """How many."""
    samples: int = 200
    """Degraded photographs per shard, of each about ten images."""
    recipes: tuple[Recipe, ...] | None = None
    """What is done to the photographs; by default nothing, or a training recipe that is not held out."""
    plausible: int = 2
    """Sensible plans per sample; all their beginnings are looked at too."""
    random: int = 1
    """Plans per sample of any tools, up to six."""
    enlarged: float = 0.2
    """Share of samples made of enlarged photographs, which are clean but not sharp to the pixel."""
    canvas: int = 128
    """Side of the images."""
    reward: str = "lite"
    """What is distilled."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    seed: int = 0
    threads: int = 1
    """CPU threads."""


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Images and what they are worth.

    Attributes:
        images: uint8 (N, 3, H, W).
        terms: What each term of the reward contributes, float32 (N, T).
        sample: Which sample each is a result of, int64 (N,); counted from 0, in order.
        clean: Whether it is the photograph itself, bool (N,).
        recipes: What was done to each of the samples.
    """

    images: Tensor
    terms: Tensor
    sample: Tensor
    clean: Tensor
    recipes: tuple[Recipe, ...]

    @property
    def r_q(self) -> Tensor:
        """What the images are worth, (N,)."""
        return self.terms.sum(1)

    @classmethod
    def join(cls, parts: Sequence[ScoredImages]) -> ScoredImages:
        """Puts several together, samples numbered on."""
        starts = np.cumsum([0, *(len(part.recipes) for part in parts)])
        return cls(
            torch.cat([part.images for part in parts]),
            torch.cat([part.terms for part in parts]),
            torch.cat([part.sample + int(start) for part, start in zip(parts, starts, strict=False)]),
            torch.cat([part.clean for part in parts]),
            tuple(recipe for part in parts for recipe in part.recipes),
        )

    def save(self, path: Path) -> None:
        """Writes a ``.npz`` file, whole or not at all."""
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez(
                file,
                images=self.images.numpy(),
                terms=self.terms.numpy(),
                sample=self.sample.numpy(),
                clean=self.clean.numpy(),
                recipes=np.array(["+".join(recipe) for recipe in self.recipes]),
            )

    @classmethod
    def load(cls, path: Path) -> ScoredImages:
        """Reads what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            recipes = tuple(tuple(filter(None, str(text).split("+"))) for text in file["recipes"])
            images, terms, sample, clean = (
                torch.from_numpy(file[name]) for name in ("images", "terms", "sample", "clean")
            )
        return cls(images, terms, sample, clean, recipes)


def held_out_recipes(seed: int = 0) -> tuple[Recipe, ...]:
    """Lists the recipes that no critic is trained on: some of the benchmark's, some others.

    A combination is held out in all its orders: else it would have been seen all but for the order.
    About 15 % of the training recipes, none of them single degradations.
    """
    benchmark = {frozenset(recipe) for recipe in benchmark_recipes()}
    combinations = sorted({tuple(sorted(recipe)) for recipe in TRAINING_RECIPES if len(recipe) > 1})
    order = np.random.default_rng(seed).permutation(len(combinations))
    shuffled = [frozenset(combinations[index]) for index in order]
    chosen = [names for names in shuffled if names in benchmark][:4]
    for names in (names for names in shuffled if names not in benchmark):
        if sum(frozenset(recipe) in chosen for recipe in TRAINING_RECIPES) >= 0.15 * len(TRAINING_RECIPES):
            break
        chosen.append(names)
    everything = dict.fromkeys(
        [*TRAINING_RECIPES, *(recipe for group in BENCHMARK_GROUPS.values() for recipe in group)]
    )
    return tuple(recipe for recipe in everything if frozenset(recipe) in chosen)


def train_recipes() -> tuple[Recipe, ...]:
    """Lists the recipes that critics are trained on, the empty one among them."""
    held_out = held_out_recipes()
    return (*(recipe for recipe in TRAINING_RECIPES if recipe not in held_out), ())


def random_plan(toolbox: Toolbox, rng: Generator, longest: int = 6) -> Plan:
    """Draws one to ``longest`` tools; those that enlarge seldom, as they are slow on a full canvas."""
    weights = np.array([1.0 if tool.scale == 1 else 0.25 for tool in toolbox])
    length = int(rng.integers(1, longest + 1))
    chosen = rng.choice(len(toolbox), length, p=weights / weights.sum())
    return tuple(toolbox.names[index] for index in chosen)


def perturbed_plausible_plan(
    toolbox: Toolbox, degradations: frozenset[str], rng: Generator, longest: int = 6
) -> Plan:
    """Draws a tool for each degradation, in this order or that, now and then with one more or one again."""
    plan = plausible_plan(toolbox, degradations, rng, longest, shuffle_prob=0.4, tool_insertion_prob=0.4)
    if plan and len(plan) < longest and rng.random() < 0.25:
        return (*plan, plan[rng.integers(len(plan))])
    return plan


def draw_plans(
    toolbox: Toolbox, degradations: frozenset[str], rng: Generator, plausible: int, random: int
) -> list[Plan]:
    """Draws plans for one image and lists them with all their beginnings, the empty one first."""
    plans = [perturbed_plausible_plan(toolbox, degradations, rng) for _ in range(plausible)]
    plans += [random_plan(toolbox, rng) for _ in range(random)]
    return list(dict.fromkeys(plan[:length] for plan in plans for length in range(len(plan) + 1))) or [()]


def score_plans(
    scorer: PlanScorer, samples: Sequence[Sample], plans: Sequence[Sequence[Plan]]
) -> Iterator[ScoredImages]:
    """Runs and judges several plans per sample, and the photograph itself; yields sample by sample.

    Args:
        scorer: With a reward that compares with the reference.
        samples: Of one canvas, with references.
        plans: Those of each sample.
    """
    for first in range(0, len(samples), _CHUNK_SIZE):
        chunk = list(zip(samples, plans, strict=True))[first : first + _CHUNK_SIZE]
        asked: list[tuple[Sample, Plan]] = []
        for sample, sample_plans in chunk:
            assert sample.reference is not None
            asked += [
                (replace(sample, lq=sample.reference), ()),
                *((sample, plan) for plan in sample_plans),
            ]
        outcomes = iter(scorer.score([sample for sample, _ in asked], [plan for _, plan in asked]))
        for sample, sample_plans in chunk:
            found = [next(outcomes) for _ in range(len(sample_plans) + 1)]
            yield ScoredImages(
                torch.stack([outcome.restored for outcome in found if outcome.restored is not None]),
                torch.tensor([list(outcome.terms.values()) for outcome in found]),
                torch.zeros(len(found), dtype=torch.int64),
                torch.arange(len(found)) == 0,
                (sample.spec.recipe,),
            )


def collect(config: CollectConfig) -> list[Path]:
    """Makes the shards that are missing; returns the paths of all of them.

    Raises:
        AgentError: If the folder holds shards made with other settings.
    """
    free = ("images", "out", "shards", "threads")
    claim_run_dir(config.out, run_settings(config, free))
    paths = [config.out / f"{number:03}.npz" for number in range(config.shards)]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    if not missing:
        return paths
    set_threads(config.threads)
    toolbox = Toolbox.load(config.toolbox)
    scorer = PlanScorer(toolbox, config.reward)
    recipes = train_recipes() if config.recipes is None else config.recipes
    sharp = clean_folder(config.images, config.canvas, recipes, DEGRADATION_COUNT_WEIGHTS)
    soft = sharp
    if config.enlarged > 0:
        write_enlarged(list_images(config.images)[::ENLARGE_EVERY], config.out / "enlarged")
        soft = clean_folder(config.out / "enlarged", config.canvas, recipes, DEGRADATION_COUNT_WEIGHTS)
    for number in track(missing, description=f"{config.out.name}: shards"):
        rng = make_rng(config.seed, SeedStage.CRITIC_COLLECTION, number)
        samples: list[Sample] = []
        for _ in range(config.samples):
            source = soft if rng.random() < config.enlarged else sharp
            samples += draw_samples(source, 1, rng)
        plans = [
            draw_plans(toolbox, sample.degradations or frozenset(), rng, config.plausible, config.random)
            for sample in samples
        ]
        judged = ScoredImages.join(list(score_plans(scorer, samples, plans)))
        judged.save(paths[number])
        print(
            f"{paths[number].name}: {len(judged.r_q)} images, mean R_q {judged.r_q.mean():.2f}", flush=True
        )
    return paths


if __name__ == "__main__":
    collect(tyro.cli(CollectConfig))
