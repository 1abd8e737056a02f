"""Evaluates how metrics without reference rank results, on photographs and recipes outside of the training.

Example:
    python -m opera_agents.critic.evaluate --images bsds500/val --json ranking.json

Several plans are run on each photograph. The evaluation reports the rank correlation of each metric with
R_q, how often the reference itself has the highest value, and the R_q that is lost if the result with the
highest value is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table
from torch import Tensor

from opera_agents.common.folders import is_real
from opera_agents.common.runs import set_threads
from opera_agents.critic.collect import score_plans
from opera_agents.critic.dataset import ScoredImages
from opera_agents.critic.plans import draw_distinct_plans
from opera_agents.critic.ranking import RankingMetrics, paired_differences, ranking_metrics_per_sample
from opera_agents.critic.recipes import held_out_recipes
from opera_env.cli.program import run_program
from opera_env.console import Console
from opera_env.data import resolve_source
from opera_env.degradations import Recipe, benchmark_recipes, load_degradations
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval, format_interval
from opera_env.files import atomic_write
from opera_env.metrics import MetricSuite
from opera_env.metrics.critic import Critic
from opera_env.reward import Reward, RewardTerm, get_reward
from opera_env.scoring import PlanScorer
from opera_env.settings import NonNegativeInt, PositiveInt, check_settings
from opera_env.tools import Toolbox

ImageScorer = Callable[[Tensor], NDArray[np.float64]]
"""Values of images, uint8 (N, 3, H, W) to float64 (N,); higher is better."""

Results = dict[str, dict[str, ConfidenceInterval]]
"""Confidence intervals by metric and by name of the ranking metric."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluates how well rewards without reference rank the results of plans."""

    images: Path
    """Folder of clean photographs that no critic was trained on; real:FOLDER for damage of cameras."""
    json: Path | None = None
    """JSON file for the results."""
    critic_weights: Path | None = None
    """Weights of a critic that is evaluated beside the rewards."""
    n: PositiveInt = 96
    """Number of samples for each of the two sets of recipes."""
    plans_per_sample: PositiveInt = 24
    """Number of plans for each sample, the empty one included."""
    rewards: tuple[str, ...] = ("label_free", "no_reference")
    """Rewards without reference to evaluate: presets, or module:attribute."""
    reward: str = "lite"
    """Reward that computes R_q: a preset, or module:attribute, a reward of your own."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The training
    recipes and the held-out recipes then contain them too."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    canvas: PositiveInt = 128
    """Side of the images in pixels."""
    seed: NonNegativeInt = 0
    """Seed of the samples, the plans and the bootstrap."""
    threads: PositiveInt = 1
    """Number of CPU threads."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)


def make_image_scorer(reward: Reward, batch_size: int = 32) -> ImageScorer:
    """Returns a function that computes a reward that needs no reference."""
    suite = MetricSuite([term.metric for term in reward.terms])

    def score_images(images: Tensor) -> NDArray[np.float64]:
        rows = [row for batch in images.split(batch_size) for row in suite(batch, [])]
        return np.array([sum(reward.contributions(row, ()).values()) for row in rows])

    return score_images


def score_samples(
    config: EvaluateConfig, recipes: Sequence[Recipe] | None
) -> tuple[ScoredImages, list[tuple[str, str | int]]]:
    """Runs plans on samples of some recipes, or of those of the source.

    Returns:
        The results, and the photograph that each sample is made of.
    """
    toolbox = Toolbox.load(config.toolbox, trust_code=config.trust_code)
    source = resolve_source(str(config.images), config.canvas, degradations=config.degradations)
    rng = np.random.default_rng(config.seed)
    samples = [source.make(spec) for spec in source.list_specs(config.n, recipes, rng)]
    plans = [
        draw_distinct_plans(toolbox, sample, rng, config.plans_per_sample, source.degradations)
        for sample in samples
    ]
    scored = score_plans(PlanScorer(toolbox, config.reward), samples, plans)
    scored_images = ScoredImages.concat(list(track(scored, total=len(samples), description="plans")))
    return scored_images, [sample.spec.source_image for sample in samples]


def summarise(
    metrics: Sequence[RankingMetrics], images: Sequence[tuple[str, str | int]], seed: int = 0
) -> dict[str, ConfidenceInterval]:
    """Averages ranking metrics, with 95 % bootstrap intervals over photographs."""
    columns = np.array([astuple(row) for row in metrics]).T
    names = [field.name for field in fields(RankingMetrics)]
    return {
        name: bootstrap_interval(list(column), images, seed)
        for name, column in zip(names, columns, strict=True)
    }


def evaluated_recipes(config: EvaluateConfig) -> dict[str, tuple[Recipe, ...] | None]:
    """Returns the sets of recipes by their titles; None for the rule of real damage."""
    if is_real([config.images]):
        return {"real damage": None}
    held_out = held_out_recipes(degradations=load_degradations(config.degradations))
    return {"held-out recipes": held_out, "benchmark": benchmark_recipes()}


def evaluate(config: EvaluateConfig) -> dict[str, Results]:
    """Evaluates every reward; returns the results for each set of recipes."""
    set_threads(config.threads)
    rewards = {name: get_reward(name) for name in config.rewards}
    if config.critic_weights is not None:
        term = RewardTerm(Critic(config.critic_weights), 0, 10, 10)
        rewards[str(config.critic_weights)] = Reward("weights", (term,))
    results: dict[str, Results] = {}
    for title, recipes in evaluated_recipes(config).items():
        scored_images, images = score_samples(config, recipes)
        values = {name: make_image_scorer(reward)(scored_images.images) for name, reward in rewards.items()}
        values["untouched"] = np.zeros(len(scored_images.r_q))  # A constant value chooses the empty plan.
        metrics = {name: ranking_metrics_per_sample(scored_images, value) for name, value in values.items()}
        first, *others = rewards
        metrics |= {
            f"{first} - {other}": paired_differences(metrics[first], metrics[other]) for other in others
        }
        results[title] = {name: summarise(rows, images, config.seed) for name, rows in metrics.items()}
    return results


def make_table(title: str, results: Mapping[str, Mapping[str, ConfidenceInterval]]) -> Table:
    """Returns the results of a set of recipes as a table."""
    table = Table("metric", *(field.name for field in fields(RankingMetrics)), title=title)
    for name, row in results.items():
        table.add_row(name, *map(format_interval, row.values()))
    return table


def main(config: EvaluateConfig) -> None:
    """Evaluates, prints the tables and writes the JSON file if one is named."""
    results = evaluate(config)
    console = Console()
    for title, rows in results.items():
        caption = f"{title}: {config.n} samples, {config.plans_per_sample} plans each"
        console.print(make_table(caption, rows))
    if config.json is not None:
        data: dict[str, Any] = {
            title: {
                name: {key: asdict(interval) for key, interval in row.items()} for name, row in rows.items()
            }
            for title, rows in results.items()
        }
        with atomic_write(config.json) as partial:
            partial.write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    run_program(EvaluateConfig, main)
