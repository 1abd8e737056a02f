"""The shipped co-trained tools: the same names, better results of plans, less change of clean images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opera_env.agents import make_agent, run_agent
from opera_env.data import bundled, clean_folder
from opera_env.degradations import benchmark_recipes
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Outcome


@pytest.fixture(scope="module")
def lite() -> Toolbox:
    return Toolbox.load("lite")


@pytest.fixture(scope="module")
def cotrained() -> Toolbox:
    return Toolbox.load("lite-cotrained")


def test_cotrained_tools_have_the_same_names_and_other_weights(lite: Toolbox, cotrained: Toolbox) -> None:
    assert cotrained.signature == lite.signature
    assert cotrained.fingerprint != lite.fingerprint
    metadata = cotrained["unet.denoise"].training["cotraining"]
    assert metadata["images"] == "bsds500/train data/photos" and metadata["agent"].startswith("planner")
    Toolbox.load("lite").load_weights("lite-cotrained")


def test_planner_of_a_toolbox_is_found_by_its_name(cotrained: Toolbox) -> None:
    agent = make_agent("planner:lite-cotrained", toolbox=cotrained)
    source = bundled()
    samples = [source.make(spec) for spec in source.list_specs(4, [("noise",)], np.random.default_rng(0))]
    assert any(run_agent(agent, samples, PlanScorer(cotrained, "classic"), 6).plans)


@pytest.mark.slow
def test_cotrained_tools_change_clean_photographs_less(lite: Toolbox, cotrained: Toolbox) -> None:
    source = bundled()
    specs = source.list_specs(6, [()], np.random.default_rng(0))
    samples = [source.make(spec) for spec in specs]
    names = [tool.name for tool in lite if tool.parameters]
    fractions = []
    for toolbox in (lite, cotrained):
        scorer = PlanScorer(toolbox, "classic")
        outcomes = scorer.score(
            samples * len(names), [(n,) for n in names for _ in samples], restored=False
        )
        fractions.append(np.mean([outcome.metrics["psnr_y"] for outcome in outcomes]))
    assert fractions[1] > fractions[0] + 4


@pytest.mark.slow
@pytest.mark.needs_shared_data
@pytest.mark.needs_weights("lpips")
def test_plans_of_cotrained_tools_give_better_results(
    shared_data: Path, lite: Toolbox, cotrained: Toolbox
) -> None:
    source = clean_folder(shared_data / "bsds500" / "val")
    specs = source.list_specs(48, benchmark_recipes(), np.random.default_rng(6))
    samples = [source.make(spec) for spec in specs]

    def reached(agent: str, toolbox: Toolbox) -> list[Outcome]:
        scorer = PlanScorer(toolbox, "lite")
        plans = run_agent(make_agent(agent, toolbox=toolbox), samples, scorer, 6).plans
        return scorer.score(samples, plans, restored=False)

    def mean(outcomes: list[Outcome], metric: str) -> float:
        return float(np.mean([outcome.metrics[metric] for outcome in outcomes]))

    before, after = reached("planner", lite), reached("planner:lite-cotrained", cotrained)
    assert np.mean([outcome.r_q for outcome in after]) > np.mean([outcome.r_q for outcome in before]) + 0.05
    assert mean(after, "lpips") < mean(before, "lpips")
    assert mean(after, "psnr_y") > mean(before, "psnr_y")
