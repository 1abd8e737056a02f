"""Measures how well metrics without reference rank results, on photographs and recipes nobody trained on.

Example:
    python -m opera_agents.critic.rank --images bsds500/val --json ranking.json

For each photograph some plans are run. How do the metrics' values go with R_q, which knows the original?
Is the original itself ranked above all results? And what is lost, in R_q, by trusting the metric's choice?
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from opera_agents.common.runs import set_threads
from opera_agents.critic.collect import ScoredImages, draw_plans, held_out_recipes, score_plans
from opera_env.data import clean_folder
from opera_env.degradations import Recipe, benchmark_recipes
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval
from opera_env.files import atomic_write
from opera_env.metrics import MetricSuite
from opera_env.metrics.critic import Critic
from opera_env.reward import Reward, RewardTerm, get_reward
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

Judge = Callable[[Tensor], NDArray[np.float64]]
"""Values images, uint8 (N, 3, H, W) to (N,); higher is better."""


@dataclass(frozen=True)
class RankConfig:
    """How rankings are measured."""

    images: Path
    """Folder of clean photographs that no critic was trained on."""
    json: Path | None = None
    """Write the figures here too."""
    weights: Path | None = None
    """A critic that is not shipped, measured beside the presets."""
    count: int = 96
    """Samples of each of the two sets of recipes."""
    plans: int = 24
    """Results per sample, the untouched image among them."""
    presets: tuple[str, ...] = ("label_free", "no_reference")
    """What is measured: rewards without reference."""
    reward: str = "lite"
    """What is right."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    canvas: int = 128
    """Side of the images."""
    seed: int = 0
    threads: int = 1
    """CPU threads."""


@dataclass(frozen=True)
class RankingMetrics:
    """How a metric ranks the results of one photograph.

    Attributes:
        spearman: Rank correlation with R_q over the results.
        kendall: The same by pairs.
        reference_first: 1 if the original is valued above every result, else 0.
        regret: R_q of the best result less R_q of the one the metric values most.
    """

    spearman: float
    kendall: float
    reference_first: float
    regret: float


def ranking(
    values: NDArray[np.float64], r_q: NDArray[np.float64], clean: NDArray[np.bool_]
) -> RankingMetrics:
    """Compares values with R_q, both (N,); ``clean`` says which is the original itself."""
    theirs, right = values[~clean], r_q[~clean]
    defined = np.ptp(theirs) > 0 and np.ptp(right) > 0  # what is all the same is not ranked at all
    spearman: Any = spearmanr(theirs, right) if defined else None  # scipy's types do not know the result
    kendall: Any = kendalltau(theirs, right) if defined else None
    return RankingMetrics(
        spearman=float(spearman.statistic) if defined else 0.0,
        kendall=float(kendall.statistic) if defined else 0.0,
        reference_first=float(values[clean].min() > theirs.max()),
        regret=float(right.max() - right[theirs.argmax()]),
    )


def ranking_metrics_per_sample(judged: ScoredImages, values: NDArray[np.float64]) -> list[RankingMetrics]:
    """Measures sample by sample; samples of undamaged photographs are left out."""
    found: list[RankingMetrics] = []
    for number, recipe in enumerate(judged.recipes):
        if recipe:
            rows = (judged.sample == number).numpy()
            r_q = judged.r_q.numpy().astype(np.float64)
            found.append(ranking(values[rows], r_q[rows], judged.clean.numpy()[rows]))
    return found


def make_image_scorer(reward: Reward, batch: int = 32) -> Judge:
    """Returns what values images by a reward that needs no reference."""
    suite = MetricSuite([term.metric for term in reward.terms])

    def judge(images: Tensor) -> NDArray[np.float64]:
        rows = [row for part in images.split(batch) for row in suite(part, [])]
        return np.array([sum(reward.contributions(row, ()).values()) for row in rows])

    return judge


def draw_distinct_plans(toolbox: Toolbox, sample: Sample, rng: Generator, count: int) -> list[Plan]:
    """Draws that many different plans, sensible and random ones with their beginnings."""
    plans: dict[Plan, None] = {}
    while len(plans) < count:
        plans |= dict.fromkeys(draw_plans(toolbox, sample.degradations or frozenset(), rng, 2, 1))
    return list(plans)[:count]


def score_samples(
    config: RankConfig, recipes: Sequence[Recipe]
) -> tuple[ScoredImages, list[tuple[str, int]]]:
    """Runs plans on photographs; returns the results and which photograph each sample is made of."""
    toolbox = Toolbox.load(config.toolbox)
    source = clean_folder(config.images, config.canvas)
    rng = np.random.default_rng(config.seed)
    samples = [source.make(spec) for spec in source.list_specs(config.count, recipes, rng)]
    plans = [draw_distinct_plans(toolbox, sample, rng, config.plans) for sample in samples]
    scored = score_plans(PlanScorer(toolbox, config.reward), samples, plans)
    judged = ScoredImages.join(list(track(scored, total=len(samples), description="plans")))
    return judged, [sample.spec.source_image for sample in samples]


def differences(ours: Sequence[RankingMetrics], theirs: Sequence[RankingMetrics]) -> list[RankingMetrics]:
    """Subtracts rankings of the same results, photograph by photograph."""
    pairs = zip(ours, theirs, strict=True)
    return [RankingMetrics(*np.subtract(astuple(one), astuple(other)).tolist()) for one, other in pairs]


def summarise(
    found: Sequence[RankingMetrics], images: Sequence[tuple[str, int]], seed: int = 0
) -> dict[str, ConfidenceInterval]:
    """Averages rankings, with 95 % intervals over photographs."""
    columns = np.array([astuple(one) for one in found]).T
    names = [field.name for field in fields(RankingMetrics)]
    return {
        name: bootstrap_interval(list(column), images, seed)
        for name, column in zip(names, columns, strict=True)
    }


def measure(config: RankConfig) -> dict[str, dict[str, dict[str, ConfidenceInterval]]]:
    """Measures every metric; figures by set of recipes, metric and name."""
    set_threads(config.threads)
    rewards = {name: get_reward(name) for name in config.presets}
    if config.weights is not None:
        term = RewardTerm(Critic(config.weights), 0, 10, 10)
        rewards[str(config.weights)] = Reward("weights", (term,))
    figures: dict[str, dict[str, dict[str, ConfidenceInterval]]] = {}
    for title, recipes in (("held-out recipes", held_out_recipes()), ("benchmark", benchmark_recipes())):
        judged, images = score_samples(config, recipes)
        values = {name: make_image_scorer(reward)(judged.images) for name, reward in rewards.items()}
        values["untouched"] = np.zeros(len(judged.r_q))  # says nothing, and so leaves the image alone
        found = {name: ranking_metrics_per_sample(judged, value) for name, value in values.items()}
        best, *others = rewards
        found |= {f"{best} - {other}": differences(found[best], found[other]) for other in others}
        figures[title] = {name: summarise(rows, images, config.seed) for name, rows in found.items()}
    return figures


def table(title: str, figures: Mapping[str, Mapping[str, ConfidenceInterval]]) -> Table:
    """Makes the table that people read."""
    drawn = Table("metric", *(field.name for field in fields(RankingMetrics)), title=title)
    for name, row in figures.items():
        cells = [f"{one.mean:.2f} ({one.low:.2f}..{one.high:.2f})" for one in row.values()]
        drawn.add_row(name, *cells)
    return drawn


def main(config: RankConfig) -> None:
    """Measures, prints and, if asked to, writes down."""
    figures = measure(config)
    console = Console()
    for title, rows in figures.items():
        console.print(table(f"{title}: {config.count} samples, {config.plans} results each", rows))
    if config.json is not None:
        plain: dict[str, Any] = {
            title: {name: {key: asdict(one) for key, one in row.items()} for name, row in rows.items()}
            for title, rows in figures.items()
        }
        with atomic_write(config.json) as part:
            part.write_text(json.dumps(plain, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(RankConfig))
