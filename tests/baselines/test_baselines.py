"""The plans of each baseline."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from opera_baselines.beam import Beam
from opera_baselines.exhaustive import Exhaustive
from opera_baselines.fixed_order import FixedOrder
from opera_baselines.greedy import Greedy
from opera_baselines.matched import Matched
from opera_baselines.order import domain_plan
from opera_baselines.random import RandomPlans
from opera_baselines.single import Single
from opera_baselines.untouched import Untouched
from opera_env.agents import make_agent
from opera_env.degradations import DEGRADATIONS, merge_degradations
from opera_env.envs.observation import Episode, observe
from opera_env.errors import AgentError, SampleError, UnknownToolError
from opera_env.evaluation.scorers import CachingScorer
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Observation, Sample
from tests.degradations.own import Vignette


@pytest.fixture
def observations(samples: list[Sample]) -> list[Observation]:
    return [observe(Episode(sample), 6) for sample in samples]


@pytest.fixture
def caching_scorer(toolbox: Toolbox) -> CachingScorer:
    return CachingScorer(PlanScorer(toolbox, "classic"))


def test_untouched_returns_empty_plans(observations: list[Observation]) -> None:
    assert [decision.plan for decision in Untouched().act(observations)] == [()] * len(observations)


def test_single_plans_the_tool_that_its_name_says(
    toolbox: Toolbox, observations: list[Observation]
) -> None:
    agent = make_agent("single:tiny.enlarge", toolbox=toolbox, max_tools=2)
    assert isinstance(agent, Single)
    assert [decision.plan for decision in agent.act(observations)] == [("tiny.enlarge",)] * len(
        observations
    )


def test_single_needs_the_name_of_a_tool_unless_there_is_one_tool(toolbox: Toolbox) -> None:
    assert Single(toolbox.subset(["tiny.blur"])).plan == ("tiny.blur",)
    with pytest.raises(AgentError, match=r"5: name the tool, as in single:tiny\.brighten"):
        make_agent("single", toolbox=toolbox)
    with pytest.raises(UnknownToolError, match=r"'tiny\.blurr'.*tiny\.blur"):
        make_agent("single:tiny.blurr", toolbox=toolbox)


def test_random_lengths_are_uniform(toolbox: Toolbox) -> None:
    images = torch.rand(2000, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    agent = RandomPlans(toolbox, max_tools=3, seed=1)
    lengths = [
        len(decision.plan) for decision in agent.act([Observation(image, image) for image in images])
    ]
    shares = np.bincount(lengths, minlength=4) / len(lengths)
    assert shares == pytest.approx([0.25] * 4, abs=0.04)


def test_random_is_a_function_of_its_seed(toolbox: Toolbox, observations: list[Observation]) -> None:
    def plans(seed: int) -> list[tuple[str, ...]]:
        return [decision.plan for decision in RandomPlans(toolbox, seed=seed).act(observations)]

    assert plans(3) == plans(3) != plans(4)


def test_domain_order_reverses_the_order_of_degradation() -> None:
    toolbox = Toolbox()
    for name in DEGRADATIONS:
        toolbox.add(f"own.{name}", nn.Identity(), degradations=[name])
    plan = domain_plan(toolbox, sorted(DEGRADATIONS))
    assert plan == tuple(f"own.{name}" for name in reversed(DEGRADATIONS))
    assert plan.index("own.jpeg") < plan.index("own.motion_blur") < plan.index("own.haze")


def test_domain_plan_puts_own_degradations_last_unless_labels_give_their_place(toolbox: Toolbox) -> None:
    toolbox.add("tiny.brighten_corners", nn.Identity(), degradations=["vignette"])
    custom_degradations = ["vignette", "noise", "low_light", "unmatched"]
    assert domain_plan(toolbox, custom_degradations) == (
        "tiny.blur",
        "tiny.brighten",
        "tiny.brighten_corners",
    )
    labels = tuple(merge_degradations([Vignette]))
    in_order = ("tiny.blur", "tiny.brighten_corners", "tiny.brighten")
    assert domain_plan(toolbox, custom_degradations, labels) == in_order
    plan = FixedOrder(toolbox, max_tools=9, labels=labels).plan
    assert plan.index("tiny.blur") < plan.index("tiny.brighten_corners") < plan.index("tiny.brighten")


def test_matched_restores_own_degradations_in_the_place_of_their_stage(
    toolbox: Toolbox, samples: list[Sample]
) -> None:
    toolbox.add("tiny.brighten_corners", nn.Identity(), degradations=["vignette"])
    sample = replace(samples[0], degradations=frozenset({"low_light", "vignette"}))
    agent = Matched(toolbox, labels=tuple(merge_degradations([Vignette])))
    plans = agent.search([sample], PlanScorer(toolbox, "classic"))
    assert plans == [("tiny.brighten_corners", "tiny.brighten")]


def test_fixed_order_is_one_plan_cut_to_max_tools(
    toolbox: Toolbox, observations: list[Observation]
) -> None:
    plans = {decision.plan for decision in FixedOrder(toolbox, max_tools=3).act(observations)}
    assert len(plans) == 1
    assert len(plans.pop()) == 3


def test_matched_takes_one_tool_for_each_degradation(
    samples: list[Sample], caching_scorer: CachingScorer
) -> None:
    toolbox = caching_scorer.scorer.toolbox
    for sample, plan in zip(samples, Matched(toolbox).search(samples, caching_scorer), strict=True):
        assert sample.degradations is not None
        matched = [next(iter(toolbox[name].degradations & sample.degradations), None) for name in plan]
        assert None not in matched
        assert len(matched) == len(set(matched))


def test_matched_raises_if_degradations_are_unknown(
    samples: list[Sample], caching_scorer: CachingScorer
) -> None:
    with pytest.raises(SampleError, match="leave this agent out"):
        Matched(caching_scorer.scorer.toolbox).search([samples[0].blind()], caching_scorer)


@pytest.mark.parametrize("tool_cost", [0.0, 0.1])
def test_exhaustive_beats_beam_beats_greedy_at_equal_length(
    samples: list[Sample], caching_scorer: CachingScorer, tool_cost: float
) -> None:
    def reward(plans: list[tuple[str, ...]]) -> np.ndarray:
        return np.array(
            [
                outcome.r_q - tool_cost * len(plan)
                for outcome, plan in zip(caching_scorer.score(samples, plans), plans, strict=True)
            ]
        )

    options: dict[str, Any] = {"max_tools": 3, "tool_cost": tool_cost}
    greedy = reward(Greedy(**options).search(samples, caching_scorer))
    beam = reward(Beam(width=2, **options).search(samples, caching_scorer))
    exhaustive = reward(Exhaustive(max_length=3, **options).search(samples, caching_scorer))
    untouched = reward([()] * len(samples))
    assert (exhaustive >= beam).all()
    assert (beam >= greedy).all()
    assert (greedy >= untouched).all()
    assert (greedy > untouched).any()


def test_a_high_tool_cost_gives_empty_plans(samples: list[Sample], caching_scorer: CachingScorer) -> None:
    for search in (
        Greedy(tool_cost=100.0),
        Beam(tool_cost=100.0, max_tools=2),
        Exhaustive(tool_cost=100.0),
    ):
        assert search.search(samples, caching_scorer) == [()] * len(samples)


def test_a_margin_gives_shorter_plans(samples: list[Sample], caching_scorer: CachingScorer) -> None:
    strict = Exhaustive(max_length=2).search(samples, caching_scorer)
    lenient = Exhaustive(max_length=2, margin=1.0).search(samples, caching_scorer)
    assert sum(map(len, lenient)) < sum(map(len, strict))


def test_exhaustive_keeps_to_max_tools() -> None:
    assert Exhaustive(max_length=4, max_tools=1).max_length == 1


def test_search_needs_neither_reference_nor_labels(
    samples: list[Sample], make_toolbox: Callable[[], Toolbox]
) -> None:
    scorer = PlanScorer(make_toolbox(), "label_free")
    plans = Greedy(max_tools=2).search([sample.blind() for sample in samples], scorer)
    assert len(plans) == len(samples)
