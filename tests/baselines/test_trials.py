"""What the agents of the literature share: plans run once, a budget ends them, images are all they see."""

from __future__ import annotations

import pytest
import torch

from opera_baselines.quality import PROFILES, QualityMix
from opera_baselines.restoreagent import RestoreAgent
from opera_baselines.trials import Trials, TrialSearch
from opera_env.budget import BudgetedScorer
from opera_env.errors import AgentError
from opera_env.metrics import MetricSuite
from opera_env.reward import get_reward
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import DecidingSearch, Outcome, Sample, SampleSpec
from tests.baselines.conftest import MakeWorld

CPU = torch.device("cpu")


class TriesAll(TrialSearch):
    """Keeps every tool in turn."""

    def restore(self, trials: Trials) -> None:
        for name in self.toolbox.names:
            trials.keep(trials.extend(name))


def test_a_plan_is_run_once(make_world: MakeWorld) -> None:
    class Repeats(TrialSearch):
        def restore(self, trials: Trials) -> None:
            assert trials.extend("a.noise") is trials.extend("a.noise")

    world = make_world(["noise"])
    assert world.decide(Repeats(world.toolbox)).plan == ()
    assert world.tried == [(), ("a.noise",)]


def test_the_decision_has_what_was_seen_and_done(make_world: MakeWorld) -> None:
    world = make_world(["rain", "noise"], tools=["a.rain", "a.noise"])
    decision = world.decide(TriesAll(world.toolbox))
    assert decision.plan == ("a.rain", "a.noise")
    assert decision.degradations == {"rain", "noise"}
    assert decision.probabilities is not None and decision.probabilities["haze"] == 0.1
    assert decision.reasoning == "a.rain kept, 3.00 to 4.00. a.noise kept, 4.00 to 5.00."


def test_the_best_trial_is_the_decision_when_the_budget_ends(make_world: MakeWorld) -> None:
    """Also if the method would not have kept it yet, or would have kept a worse one."""
    values = {(): 1.0, ("a.noise",): 3.0, ("a.noise", "b.noise"): 2.0}
    world = make_world(["noise"], value=lambda plan: values[plan], tools=["a.noise", "b.noise", "a.rain"])
    search = TriesAll(world.toolbox)
    sample = Sample(torch.zeros(3, 8, 8), None, None, (8, 8), SampleSpec("scripted", 0))
    search.severities = world.severities  # pyright: ignore[reportAttributeAccessIssue]
    (decision,) = search.decide([sample], BudgetedScorer(world, budget=2))
    assert decision.plan == ("a.noise",) and decision.degradations == {"noise"}
    assert decision.reasoning is not None
    assert decision.reasoning.endswith("Budget spent, best plan so far kept: a.noise.")


def test_the_tool_cost_is_part_of_the_reward(make_world: MakeWorld) -> None:
    world = make_world(["noise"])
    sample = Sample.__new__(Sample)
    trials = Trials(sample, world, QualityMix("judge", CPU), tool_cost=0.3)
    assert trials.kept.reward == 4.0
    assert trials.extend("a.noise").reward == pytest.approx(4.7)


def test_labels_and_references_have_no_influence(toolbox: Toolbox, samples: list[Sample]) -> None:
    search = RestoreAgent(toolbox, max_tools=2)
    assert isinstance(search, DecidingSearch)
    scorer = PlanScorer(toolbox, "label_free")
    blind = [sample.blind() for sample in samples]
    assert search.decide(samples, scorer) == search.decide(blind, scorer)


def test_the_quality_is_a_weighted_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 64, 64), generator=generator).to(torch.uint8)
    outcome = Outcome(image, r_q=4.0)
    reward = get_reward("no_reference")
    (metrics,) = MetricSuite(["niqe32", "piqe"])(image[None], ())
    alone = sum(reward.contributions(metrics, ()).values())
    for profile, share in PROFILES.items():
        expected = share * 4.0 + (1 - share) * alone
        assert QualityMix(profile, CPU)(outcome) == pytest.approx(expected)


def test_an_unknown_profile_is_an_error() -> None:
    with pytest.raises(AgentError, match=r"judge, fidelity, perception, no_reference, found 'speed'"):
        QualityMix("speed", CPU)
