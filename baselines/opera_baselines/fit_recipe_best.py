"""Fits what ``recipe_best`` knows: the plan that is best on average for each of the benchmark's recipes.

Example:
    python -m opera_baselines.fit_recipe_best --images bsds500/train

Interrupt it at any time: the same command goes on after the last recipe that was finished. More recipes
are added to a file by ``--recipes rain+noise haze+noise+jpeg``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from rich.progress import track

from opera_baselines.order import domain_plan
from opera_baselines.recipe_best import TABLE, PlanTable
from opera_env.data import SyntheticSource
from opera_env.data.images import list_images
from opera_env.degradations import BENCHMARK_GROUPS, DEGRADATIONS, Recipe, check_recipe
from opera_env.errors import OutputError, SampleError
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.search import PlanRewards, best_plan, plan_rewards
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, Scorer

NUM_FINALISTS = 10
"""Plans that are judged again: the best of hundreds is partly the luckiest."""


@dataclass(frozen=True)
class FitConfig:
    """Searches, recipe by recipe, the plan with the highest mean reward over photographs.

    A beam search finds candidates on some photographs; the best of them are judged again, beside the
    matched tools, on twice as many others, and the best of those is kept.
    """

    images: Path
    """Folder of clean photographs."""
    out: Path = TABLE
    """File to write; the package's own by default."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    reward: str = "lite"
    """What counts as quality."""
    recipes: tuple[str, ...] = tuple(
        "+".join(recipe) for group in BENCHMARK_GROUPS.values() for recipe in group
    )
    """Degradations in the order they are applied; the benchmark's 16 combinations by default."""
    per_recipe: int = 12
    """Photographs on which the plans of a recipe are searched; the folder needs three times as many."""
    width: int = 3
    """Prefixes kept per length."""
    max_tools: int = 5
    """Longest plan."""
    seed: int = 0
    """Of photographs, crops and degradations."""
    threads: int = 1
    """CPU threads."""

    def command(self) -> str:
        """Returns the command line that gives the same plans, without paths of this machine."""
        images = self.images.resolve()
        return (
            f"python -m opera_baselines.fit_recipe_best --images {images.parent.name}/{images.name} "
            f"--toolbox {Path(self.toolbox).name} --reward {self.reward} --per-recipe {self.per_recipe} "
            f"--width {self.width} --max-tools {self.max_tools} --seed {self.seed}"
        )


def mean_plan_rewards(samples: Sequence[Sample], plans: Sequence[Plan], scorer: Scorer) -> PlanRewards:
    """Scores every plan on every sample, in one call; returns the means over the samples."""
    pairs = [(sample, plan) for plan in plans for sample in samples]
    found = plan_rewards([sample for sample, _ in pairs], [plan for _, plan in pairs], scorer)
    means = np.reshape(found, (len(plans), len(samples))).mean(1)
    return dict(zip(plans, means.tolist(), strict=True))


def search_constant_plan(
    samples: Sequence[Sample], scorer: Scorer, starts: Sequence[Plan], width: int, max_tools: int
) -> PlanRewards:
    """Extends the plans of each length that are best on average, until that earns nothing.

    Args:
        samples: The images that one plan must suit.
        scorer: Judges plans.
        starts: Plans that compete with those of their length.
        width: Prefixes kept per length.
        max_tools: Longest plan.

    Returns:
        Mean R_q of all plans tried, the empty one and ``starts`` among them.
    """
    tried = mean_plan_rewards(samples, list(dict.fromkeys([(), *starts])), scorer)
    longest = max(map(len, starts), default=0)
    for length in range(max_tools):
        level = {plan: value for plan, value in tried.items() if len(plan) == length}
        prefixes = sorted(level, key=level.__getitem__, reverse=True)[:width]
        plans = [(*prefix, name) for prefix in prefixes for name in scorer.tool_names]
        found = mean_plan_rewards(samples, [plan for plan in plans if plan not in tried], scorer)
        tried |= found
        if length >= longest and max(found.values()) <= max(level.values()):
            break
    return tried


def draw_samples(recipe: Recipe, config: FitConfig) -> list[Sample]:
    """Makes the samples to fit one recipe on, each of another photograph.

    Raises:
        SampleError: If the folder has too few photographs.
    """
    paths = list_images(config.images)
    count = 3 * config.per_recipe
    if not 0 < count <= len(paths):
        raise SampleError(
            f"{config.images} has {len(paths)} photographs, --per-recipe {config.per_recipe} needs {count} "
            "(at least 3): add photographs, or choose another number."
        )
    rng = np.random.default_rng((config.seed, *map(DEGRADATIONS.index, recipe)))
    source = SyntheticSource([paths[index] for index in rng.permutation(len(paths))], "shuffled")
    return [source.make(spec) for spec in source.list_specs(count, [recipe], rng)]


def fit_recipe(recipe: Recipe, config: FitConfig, scorer: PlanScorer) -> tuple[Plan, dict[str, float]]:
    """Finds the plan for one recipe, and what it, its matched tools and nothing earn on fresh images."""
    samples = draw_samples(recipe, config)
    first, fresh = samples[: config.per_recipe], samples[config.per_recipe :]
    matched = domain_plan(scorer.toolbox, recipe)[: config.max_tools]
    starts = list(dict.fromkeys(permutations(matched)))
    tried = search_constant_plan(first, scorer, starts, config.width, config.max_tools)
    finalists = sorted(tried, key=tried.__getitem__, reverse=True)[:NUM_FINALISTS]
    judged = mean_plan_rewards(fresh, list(dict.fromkeys([*finalists, matched, ()])), scorer)
    plan = best_plan(judged)
    rounded = {"untouched": judged[()], "matched": judged[matched], "plan": judged[plan]}
    return plan, {name: round(value, 3) for name, value in rounded.items()}


def begin(config: FitConfig, toolbox: Toolbox) -> PlanTable:
    """Returns the table to go on with, or an empty one.

    Raises:
        OutputError: If the file holds plans that were fitted otherwise.
    """
    identity = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    empty = PlanTable(identity, config.reward, config.command(), 3 * config.per_recipe)
    if not config.out.exists():
        return empty
    table = PlanTable.read(config.out)
    if replace(table, plans={}, scores={}) != empty:
        raise OutputError(
            f"{config.out} was fitted otherwise, by {table.command} for the toolbox {dict(table.toolbox)}; "
            f"this is {empty.command} for {identity}: delete it, or choose another --out."
        )
    return table


def fit(config: FitConfig) -> PlanTable:
    """Fits all recipes that the file lacks, and writes it after each."""
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    toolbox = Toolbox.load(config.toolbox)
    table = begin(config, toolbox)
    recipes = [check_recipe(recipe.split("+")) for recipe in config.recipes]
    missing = [recipe for recipe in recipes if recipe not in table.plans]
    for recipe in track(missing, "recipes", disable=not sys.stdout.isatty()):
        scorer = PlanScorer(toolbox, config.reward, cache=PrefixCache())
        plan, scores = fit_recipe(recipe, config, scorer)
        table = replace(table, plans={**table.plans, recipe: plan}, scores={**table.scores, recipe: scores})
        table.write(config.out)
        print(f"{'+'.join(recipe)}: {' > '.join(plan)} {scores}, {scorer.images_scored} scored", flush=True)
    return table


if __name__ == "__main__":
    fit(tyro.cli(FitConfig))
