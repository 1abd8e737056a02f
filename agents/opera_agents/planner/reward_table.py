"""A table of rewards: R_q of many candidate plans on each of many samples, scored once and used often.

Example:
    python -m opera_agents.planner.reward_table --images bsds500/train --out runs/table

The run may be interrupted at any time: the same command resumes with the first missing shard. Each shard is
a function of the settings and of its number. A table holds specifications instead of images, so that it is
small; the samples are made again from them.

Source: the paper explores with sampled plans alone. A table shows every training step the rewards of plans
    that a policy would sample late or never.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from opera_agents.common.batches import draw_samples
from opera_agents.common.folders import identify_photographs, is_real, load_custom_degradations
from opera_agents.common.photographs import check_photographs, training_source
from opera_agents.common.runs import run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.common.shards import collect_shards, open_shard
from opera_agents.planner.candidates import candidate_plans, refine_plans
from opera_env.cli.program import run_program
from opera_env.cluster import Cluster
from opera_env.data import Source
from opera_env.degradations import (
    Recipe,
    benchmark_recipes,
    load_degradations,
    merge_degradations,
    training_recipes,
)
from opera_env.errors import MissingWeightsError, SettingError, ToolboxMismatchError
from opera_env.execution import PrefixCache
from opera_env.files import atomic_write
from opera_env.plan import PlanCodec
from opera_env.reward import get_reward
from opera_env.runs import (
    SETTINGS_FILE,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Range,
    check_settings,
    identify_toolbox,
    read_settings,
)
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, SampleSpec

_NUM_REFINED = 3
"""Number of plans that are edited for each sample."""


@dataclass(frozen=True, eq=False)
class RewardTable:
    """The rewards of candidate plans.

    Attributes:
        specs: Specifications of the N samples.
        plans: The K candidate plans of each sample as actions, uint8 (N, K, max_tools): token i + 1 is tool
            i. Row 0 of each sample is the empty plan; a sample with fewer candidates repeats it.
        r_q: R_q of each plan, float32 (N, K).
    """

    specs: tuple[SampleSpec, ...]
    plans: NDArray[np.uint8]
    r_q: NDArray[np.float32]

    @property
    def content(self) -> str:
        """Digest of the table, for the settings of runs that use it."""
        digest = hashlib.sha256(json.dumps([spec.to_json() for spec in self.specs]).encode())
        digest.update(self.plans.tobytes() + self.r_q.tobytes())
        return digest.hexdigest()[:16]

    @property
    def summary(self) -> str:
        """Mean R_q of the best candidates and of the untouched samples, in words."""
        best, untouched = self.r_q.max(1).mean(), self.r_q[:, 0].mean()
        return f"best candidate {best:.2f}, untouched {untouched:.2f}"

    @classmethod
    def concat(cls, tables: Sequence[RewardTable]) -> RewardTable:
        """Joins tables of one toolbox, number of candidates and reward."""
        return cls(
            tuple(spec for table in tables for spec in table.specs),
            np.concatenate([table.plans for table in tables]),
            np.concatenate([table.r_q for table in tables]),
        )

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file atomically."""
        with atomic_write(path) as part, part.open("wb") as file:
            specs = np.array([json.dumps(spec.to_json()) for spec in self.specs])
            np.savez_compressed(file, specs=specs, plans=self.plans, r_q=self.r_q)

    @classmethod
    def load(cls, path: Path) -> RewardTable:
        """Reads the file that :meth:`save` wrote.

        Raises:
            RunError: If the file is damaged.
        """
        with open_shard(path) as file:
            specs = tuple(SampleSpec.from_json(json.loads(str(text))) for text in file["specs"])
            return cls(specs, file["plans"], file["r_q"])


@dataclass(frozen=True)
class RewardTableConfig:
    """Scores candidate plans on training samples, in shards."""

    images: tuple[Path, ...]
    """Folders of clean photographs, all at least as large as the crops; real:FOLDER for damage as cameras
    make it."""
    out: Path = Path("runs/table")
    """Folder of the shards."""
    shards: PositiveInt = 50
    """Number of shards."""
    samples: PositiveInt = 40
    """Number of samples in a shard."""
    candidates: PositiveInt = 100
    """Number of candidate plans for each sample; the empty plan is one of them."""
    refined: NonNegativeInt = 40
    """Number of the candidates that are edits of the three best others, so that there are many good plans
    among them."""
    clean_weight: NonNegativeFloat = 1.5
    """Sampling weight of clean photographs, relative to degradation_count_weights."""
    degradation_count_weights: Annotated[tuple[float, float, float], Range(0)] = (1.0, 3.0, 5.0)
    """Sampling weights of photographs with one, two and three degradations."""
    benchmark: bool = True
    """Draw the benchmark's orders of degradations too, where they differ from the training recipes."""
    enlarged: bool = True
    """Use enlarged copies of some photographs too, which are soft although they are clean."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    max_tools: PositiveInt = 6
    """Maximum number of tools in a plan."""
    reward: str = "lite"
    """Reward that computes R_q: a preset, or module:attribute, a reward of your own."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list."""
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
        if self.refined >= self.candidates:
            raise SettingError("refined", self.refined, f"fewer than all {self.candidates} candidates")


def collect_shard(
    config: RewardTableConfig, scorer: PlanScorer, source: Source, number: int
) -> RewardTable:
    """Draws the samples of a shard and candidate plans for each, and scores them."""
    codec, names = PlanCodec(scorer.toolbox.names, config.max_tools), scorer.toolbox.names
    samples = draw_samples(source, config.samples, make_rng(config.seed, SeedStage.REWARD_TABLE, number))
    plans = np.zeros((len(samples), config.candidates, config.max_tools), np.uint8)
    r_q = np.zeros((len(samples), config.candidates), np.float32)
    for row, sample in enumerate(samples):
        rng = make_rng(config.seed, SeedStage.REWARD_TABLE, number, stream=1 + row)
        candidates = candidate_plans(
            scorer.toolbox,
            sample.degradations or frozenset(),
            rng,
            config.candidates - config.refined,
            config.max_tools,
            source.degradations,
        )
        rewards = _score(scorer, sample, candidates)
        if config.refined:
            best = [candidates[index] for index in np.argsort(rewards)[::-1][:_NUM_REFINED]]
            edited = refine_plans(best, candidates, names, rng, config.refined, config.max_tools)
            rewards, candidates = rewards + _score(scorer, sample, edited), candidates + edited
        r_q[row] = rewards[0]
        r_q[row, : len(candidates)] = rewards
        plans[row, : len(candidates)] = [codec.encode(plan) for plan in candidates]
    return RewardTable(tuple(sample.spec for sample in samples), plans, r_q)


def _score(scorer: PlanScorer, sample: Sample, plans: Sequence[Plan]) -> list[float]:
    outcomes = scorer.score([sample] * len(plans), plans, restored=False)
    return [outcome.r_q for outcome in outcomes]


def table_recipes(config: RewardTableConfig) -> tuple[Recipe, ...]:
    """Returns the recipes of a table: all training recipes, and the benchmark's other orders."""
    custom = load_degradations(config.degradations)
    recipes = training_recipes(degradations=merge_degradations(custom).values())
    benchmark = benchmark_recipes() if config.benchmark else ()
    return tuple(dict.fromkeys([*recipes, *benchmark]))


def load_table(folder: Path, toolbox: Toolbox) -> RewardTable:
    """Returns the finished shards of a folder as one table.

    Args:
        folder: Folder of a run of this program.
        toolbox: The tools, which have to be those that the plans were scored with.

    Raises:
        MissingWeightsError: If the folder holds no shards.
        ToolboxMismatchError: If the plans were scored with other tools.
        RunError: If a file is damaged.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        remedy = "python -m opera_agents.planner.reward_table --help"
        raise MissingWeightsError("a table of rewards", folder / "000.npz", remedy)
    identity = read_settings(folder / SETTINGS_FILE).get("toolbox")
    if not isinstance(identity, dict) or identity.get("content") != toolbox.fingerprint:
        raise ToolboxMismatchError(
            f"the table in {folder} was made with the tools {identity}, and the toolbox has fingerprint "
            f"{toolbox.fingerprint}: name the toolbox of the table, or collect a table for this one."
        )
    return RewardTable.concat([RewardTable.load(path) for path in paths])


def collect(config: RewardTableConfig) -> list[Path]:
    """Collects the missing shards; returns the paths of all shards.

    Raises:
        RunError: If another process collects in the folder, or the folder holds shards that were collected
            with other settings.
    """
    get_reward(config.reward)
    toolbox = Toolbox.load(config.toolbox, trust_code=config.trust_code)
    degradations = load_custom_degradations(config.images, config.degradations)
    recipes = None if is_real(config.images) else table_recipes(config)
    check_photographs(config.images, [config.canvas])
    inputs = {
        "images": identify_photographs(*config.images),
        "toolbox": identify_toolbox(config.toolbox, toolbox.fingerprint),
    }
    settings = run_settings(config, exclude=("out", "shards", "threads", "ray", "ray_workers"), **inputs)

    def prepare() -> Callable[[int], RewardTable]:
        set_threads(config.threads)
        source = training_source(
            config.images,
            config.canvas,
            config.out / "enlarged" if config.enlarged else None,
            config.clean_weight,
            recipes,
            config.degradation_count_weights,
            degradations,
        )
        return partial(
            collect_shard, config, PlanScorer(toolbox, config.reward, cache=PrefixCache()), source
        )

    cluster = None if config.ray is None else Cluster(config.ray, config.ray_workers)
    return collect_shards(config.out, settings, config.shards, prepare, cluster)


if __name__ == "__main__":
    run_program(RewardTableConfig, collect)
