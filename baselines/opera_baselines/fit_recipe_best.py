"""Fits the plans of ``recipe_best``: for each recipe, the plan with the highest mean reward.

Example:
    python -m opera_baselines.fit_recipe_best --images bsds500/train

The run may be interrupted at any time: the same command resumes after the last finished recipe. Further
recipes are added to a file with ``--recipes rain+noise haze+noise+jpeg``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.progress import track

from opera_baselines.order import domain_plan
from opera_baselines.recipe_best import SHIPPED_PLANS, PlanTable
from opera_env.cli.program import run_program
from opera_env.data import SyntheticSource
from opera_env.data.images import list_images
from opera_env.degradations import BENCHMARK_GROUPS, DEGRADATIONS, Recipe, check_recipe
from opera_env.errors import OutputError, SampleError
from opera_env.execution import PrefixCache
from opera_env.reward import get_reward
from opera_env.runs import describe_changes, identify_images, lock_path
from opera_env.scoring import PlanScorer
from opera_env.search import PlanRewards, best_plan, plan_rewards
from opera_env.settings import NonNegativeInt, PositiveInt, check_settings
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, Scorer

NUM_FINALISTS = 10
"""Number of plans that are scored again on fresh photographs.

The best of hundreds of plans on few photographs is partly the luckiest.
"""


@dataclass(frozen=True)
class FitConfig:
    """Fits, for each recipe, the plan with the highest mean reward over photographs.

    A beam search finds candidates on some photographs. The best candidates and the matched tools are
    scored again on twice as many other photographs, and the best of these plans is kept.
    """

    images: Path
    """Folder of clean photographs."""
    out: Path = SHIPPED_PLANS
    """File to write; by default the file in the package."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    reward: str = "lite"
    """Reward that the plans maximise: a preset, or module:attribute, a reward of your own."""
    recipes: tuple[str, ...] = tuple(
        "+".join(recipe) for group in BENCHMARK_GROUPS.values() for recipe in group
    )
    """Recipes: degradations in the order they are applied; by default the benchmark's 16 recipes."""
    images_per_recipe: PositiveInt = 12
    """Number of photographs on which the plans of a recipe are searched. Three times as many are needed in
    all."""
    beam_width: PositiveInt = 3
    """Beam width: number of prefixes kept for each length."""
    max_tools: PositiveInt = 5
    """Maximum number of tools in a plan."""
    seed: NonNegativeInt = 0
    """Seed of the photographs, the crops and the degradations."""
    threads: PositiveInt = 1
    """Number of CPU threads."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)

    def command(self) -> str:
        """Returns the command that fits the same plans, without absolute paths."""
        images = self.images.resolve()
        return (
            f"python -m opera_baselines.fit_recipe_best --images {images.parent.name}/{images.name} "
            f"--toolbox {Path(self.toolbox).name} --reward {self.reward} "
            f"--images-per-recipe {self.images_per_recipe} --beam-width {self.beam_width} "
            f"--max-tools {self.max_tools} --seed {self.seed}"
        )


def mean_plan_rewards(samples: Sequence[Sample], plans: Sequence[Plan], scorer: Scorer) -> PlanRewards:
    """Scores every plan on every sample in one call; returns each plan's mean R_q over the samples."""
    pairs = [(sample, plan) for plan in plans for sample in samples]
    rewards = plan_rewards([sample for sample, _ in pairs], [plan for _, plan in pairs], scorer)
    means = np.reshape(rewards, (len(plans), len(samples))).mean(1)
    return dict(zip(plans, means.tolist(), strict=True))


def search_constant_plan(
    samples: Sequence[Sample], scorer: Scorer, initial_plans: Sequence[Plan], width: int, max_tools: int
) -> PlanRewards:
    """Runs a beam search for one plan over several samples, until longer plans are no better.

    Args:
        samples: The samples over which rewards are averaged.
        scorer: Scores the plans.
        initial_plans: Plans that compete with the prefixes of their length.
        width: Beam width: number of prefixes kept for each length.
        max_tools: Maximum number of tools in a plan.

    Returns:
        Mean R_q of all scored plans, including the empty one and ``initial_plans``.
    """
    rewards = mean_plan_rewards(samples, list(dict.fromkeys([(), *initial_plans])), scorer)
    longest_initial_plan = max(map(len, initial_plans), default=0)
    for length in range(max_tools):
        frontier = {plan: reward for plan, reward in rewards.items() if len(plan) == length}
        prefixes = sorted(frontier, key=frontier.__getitem__, reverse=True)[:width]
        extended_plans = [(*prefix, name) for prefix in prefixes for name in scorer.tool_names]
        extended_rewards = mean_plan_rewards(
            samples, [plan for plan in extended_plans if plan not in rewards], scorer
        )
        rewards |= extended_rewards
        if length >= longest_initial_plan and max(extended_rewards.values()) <= max(frontier.values()):
            break
    return rewards


def draw_samples(recipe: Recipe, config: FitConfig) -> list[Sample]:
    """Draws the samples on which a recipe's plan is fitted, each from another photograph.

    Raises:
        SampleError: If the folder has too few photographs.
    """
    paths = list_images(config.images)
    count = 3 * config.images_per_recipe
    if not 0 < count <= len(paths):
        raise SampleError(
            f"{config.images} has {len(paths)} photographs, --images-per-recipe "
            f"{config.images_per_recipe} needs {count} (at least 3): add photographs, or choose another "
            "number."
        )
    rng = np.random.default_rng((config.seed, *map(DEGRADATIONS.index, recipe)))
    source = SyntheticSource([paths[index] for index in rng.permutation(len(paths))], "shuffled")
    return [source.make(spec) for spec in source.list_specs(count, [recipe], rng)]


def fit_recipe(recipe: Recipe, config: FitConfig, scorer: PlanScorer) -> tuple[Plan, dict[str, float]]:
    """Fits the plan of one recipe.

    Returns:
        The plan, and the mean R_q of the untouched image, the matched tools and the plan on
        photographs that the search did not use.
    """
    samples = draw_samples(recipe, config)
    search_samples, fresh_samples = samples[: config.images_per_recipe], samples[config.images_per_recipe :]
    matched = domain_plan(scorer.toolbox, recipe)[: config.max_tools]
    initial_plans = list(dict.fromkeys(permutations(matched)))
    rewards = search_constant_plan(
        search_samples, scorer, initial_plans, config.beam_width, config.max_tools
    )
    finalists = sorted(rewards, key=rewards.__getitem__, reverse=True)[:NUM_FINALISTS]
    candidates = list(dict.fromkeys([*finalists, matched, ()]))
    fresh_rewards = mean_plan_rewards(fresh_samples, candidates, scorer)
    plan = best_plan(fresh_rewards)
    scores = {
        "untouched": fresh_rewards[()],
        "matched": fresh_rewards[matched],
        "plan": fresh_rewards[plan],
    }
    return plan, {name: round(value, 3) for name, value in scores.items()}


def create_table(config: FitConfig, toolbox: Toolbox) -> PlanTable:
    """Returns a table without plans."""
    return PlanTable(
        toolbox={"signature": toolbox.signature, "fingerprint": toolbox.fingerprint},
        reward=config.reward,
        command=config.command(),
        images=3 * config.images_per_recipe,
        content=identify_images(config.images)["content"],
    )


def load_table(path: Path, empty_table: PlanTable) -> PlanTable:
    """Returns the table to resume from: that of the file, or the empty one if there is no file.

    Raises:
        OutputError: If the file holds plans that were fitted with other settings.
    """
    if not path.exists():
        return empty_table
    table = PlanTable.read(path, "Delete the file to fit all plans again, or choose another --out.")
    if not table.content:  # of an earlier version: the name of the folder has to do
        empty_table = replace(empty_table, content="")
    if changes := describe_changes(_settings(table), _settings(empty_table)):
        raise OutputError(
            f"{path} was fitted with other settings ({'; '.join(changes.values())}): delete the file, or "
            "choose another --out."
        )
    return replace(empty_table, plans=table.plans, scores=table.scores)


def _settings(table: PlanTable) -> dict[str, Any]:
    """Returns the settings of a table by name; photographs and toolbox are identities."""
    words = shlex.split(table.command)[3:]
    settings: dict[str, Any] = dict(zip(words[::2], words[1::2], strict=False))
    contents = {"--images": table.content, "--toolbox": table.toolbox["fingerprint"]}
    for name, content in contents.items():
        value = settings.get(name, "")
        settings[name] = {"name": value, "content": content or value}
    return settings


def fit(config: FitConfig) -> PlanTable:
    """Fits the recipes that the file lacks, and writes the file after each.

    Raises:
        RunError: If another process fits plans in the same file.
        OutputError: If the file holds plans that were fitted with other settings.
    """
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    recipes = [check_recipe(recipe.split("+")) for recipe in config.recipes]
    toolbox = Toolbox.load(config.toolbox, trust_code=config.trust_code)
    reward = get_reward(config.reward)
    empty_table = create_table(config, toolbox)
    for recipe in recipes[:1]:
        draw_samples(recipe, config)  # finds out whether there are enough photographs
    lock = config.out.with_name(f".{config.out.name}.lock")
    with lock_path(lock, f"another process is fitting {config.out}"):
        table = load_table(config.out, empty_table)
        missing = [recipe for recipe in recipes if recipe not in table.plans]
        if table.plans:
            print(f"{config.out} has {len(recipes) - len(missing)} of {len(recipes)} recipes")
        for recipe in track(missing, "recipes", disable=not (missing and sys.stdout.isatty())):
            scorer = PlanScorer(toolbox, reward, cache=PrefixCache())
            plan, scores = fit_recipe(recipe, config, scorer)
            plans, all_scores = {**table.plans, recipe: plan}, {**table.scores, recipe: scores}
            table = replace(table, plans=plans, scores=all_scores)
            table.write(config.out)
            print(
                f"{'+'.join(recipe)}: {' > '.join(plan)} {scores}, {scorer.images_scored} images scored",
                flush=True,
            )
    return table


if __name__ == "__main__":
    run_program(FitConfig, fit)
