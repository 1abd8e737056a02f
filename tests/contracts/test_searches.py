"""Every installed search keeps to the protocol: a plan per image, never worse than doing nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import Tensor

from opera_baselines.recipe_best import PlanTable
from opera_env.agents import ENTRY_POINT_GROUP, make_agent
from opera_env.errors import SampleError
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample, Search

MAX_TOOLS = 2
SEARCHES = [
    point.name for point in entry_points(group=ENTRY_POINT_GROUP) if hasattr(point.load(), "search")
]
TOLD = ("matched", "recipe_best")
"""These read the labels and ask the scorer nothing."""

every_search = pytest.mark.parametrize("name", SEARCHES)
every_optimiser = pytest.mark.parametrize("name", [name for name in SEARCHES if name not in TOLD])


def _nearness(images: Tensor, references: Tensor) -> Tensor:
    return 1 - (images - references).abs().mean((1, 2, 3))


def _greyness(images: Tensor) -> Tensor:
    return 1 - (images - 0.5).abs().mean((1, 2, 3))


NEAR = Reward("near", (RewardTerm(FunctionMetric("near", _nearness, 0.0, needs_reference=True), 0, 1, 10),))
"""Quick and sharp; needs a reference."""

GREY = Reward("grey", (RewardTerm(FunctionMetric("grey", _greyness, 0.0), 0, 1, 10),))
"""The same without reference."""


class Spy:
    """A scorer that notes what it is asked."""

    def __init__(self, scorer: PlanScorer) -> None:
        self.scorer = scorer
        self.asked: list[tuple[Sample, Plan]] = []

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self.scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        self.asked += zip(samples, plans, strict=True)
        return self.scorer.score(samples, plans, restored=restored)


@pytest.fixture
def table(toolbox: Toolbox, samples: list[Sample]) -> PlanTable:
    """Three tools for each recipe of the samples: what ``recipe_best`` brings is for other tools."""
    identity = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    plans = {sample.spec.recipe: toolbox.names[:3] for sample in samples}
    return PlanTable(identity, reward="near", command="by hand", images=0, plans=plans)


@pytest.fixture
def make(name: str, toolbox: Toolbox, table: PlanTable) -> Callable[..., Search]:
    def search(**options: Any) -> Search:
        offered = {"toolbox": toolbox, "max_tools": MAX_TOOLS, "seed": 0, "table": table}
        found = make_agent(name, **offered | options)
        assert isinstance(found, Search)
        return found

    return search


@pytest.fixture
def scorer(toolbox: Toolbox) -> PlanScorer:
    return PlanScorer(toolbox, NEAR)


def value(scorer: PlanScorer, sample: Sample, plan: Plan, tool_cost: float = 0.0) -> float:
    return scorer.score([sample], [plan])[0].r_q - tool_cost * len(plan)


@every_search
@pytest.mark.parametrize("count", [0, 1, 4])
def test_one_plan_per_sample(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample], count: int
) -> None:
    plans = make().search(samples[:count], scorer)
    assert len(plans) == count
    for plan in plans:
        assert isinstance(plan, tuple)
        assert set(plan) <= set(scorer.tool_names)
        assert len(plan) <= MAX_TOOLS


@every_search
@pytest.mark.parametrize("max_tools", [1, 3])
def test_it_keeps_within_max_tools(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample], max_tools: int
) -> None:
    spy = Spy(scorer)
    plans = make(max_tools=max_tools).search(samples[:2], spy)
    assert max(map(len, plans)) <= max_tools
    assert all(len(plan) <= max_tools for _, plan in spy.asked)


@every_search
def test_it_finds_the_same_again(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    search = make()
    first = search.search(samples, scorer)
    assert search.search(samples, scorer) == first
    assert make().search(samples, scorer) == first


@every_search
def test_equal_samples_get_equal_plans(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    plans = make().search([samples[0], samples[1], samples[0]], scorer)
    assert plans[0] == plans[2]


@every_search
def test_company_does_not_matter(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    """Searched together or alone, the plan is as good; batching may move R_q by .02 (decision 5)."""
    together = make().search(samples, scorer)
    for sample, plan in zip(samples, together, strict=True):
        (alone,) = make().search([sample], scorer)
        assert value(scorer, sample, plan) == pytest.approx(value(scorer, sample, alone), abs=0.02)


@every_search
def test_samples_are_left_alone(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    before = [(sample.lq.clone(), sample.key) for sample in samples]
    make().search(samples, scorer)
    for sample, (image, key) in zip(samples, before, strict=True):
        assert torch.equal(sample.lq, image) and sample.key == key


@every_optimiser
@pytest.mark.parametrize("tool_cost", [0.0, 0.05, 5.0])
def test_never_worse_than_the_untouched_image(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample], tool_cost: float
) -> None:
    plans = make(tool_cost=tool_cost).search(samples, scorer)
    for sample, plan in zip(samples, plans, strict=True):
        assert value(scorer, sample, plan, tool_cost) >= value(scorer, sample, (), tool_cost) - 1e-6
    if tool_cost == 5.0:
        assert plans == [()] * len(samples)  # nothing here is worth that much


@every_optimiser
def test_it_finds_what_one_tool_can_do(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    """No search that tries plans misses the best single tool."""
    plans = make().search(samples, scorer)
    assert any(plans)
    for sample, plan in zip(samples, plans, strict=True):
        best = max(value(scorer, sample, (name,)) for name in scorer.tool_names)
        assert value(scorer, sample, plan) >= best - 1e-3


@every_optimiser
def test_it_returns_a_plan_it_has_tried(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    spy = Spy(scorer)
    plans = make().search(samples, spy)
    tried = {(sample.key, plan) for sample, plan in spy.asked}
    assert all((sample.key, plan) in tried for sample, plan in zip(samples, plans, strict=True))


@every_optimiser
def test_useless_tools_are_not_used(make: Callable[..., Search], samples: list[Sample]) -> None:
    """Of equally good plans the shortest: an identity is in no plan."""
    toolbox = Toolbox().add("tiny.nothing", torch.nn.Identity()).add("tiny.same", torch.nn.Identity())
    plans = make(toolbox=toolbox).search(samples, PlanScorer(toolbox, NEAR))
    assert plans == [()] * len(samples)


@every_optimiser
def test_blind_it_needs_no_reference(
    make: Callable[..., Search], toolbox: Toolbox, samples: list[Sample]
) -> None:
    """And finds by what it can see: greyness."""
    blind = [sample.blind() for sample in samples]
    spy = Spy(PlanScorer(toolbox, GREY))
    plans = make().search(blind, spy)
    assert all(sample.reference is None and sample.degradations is None for sample, _ in spy.asked)
    for sample, plan in zip(blind, plans, strict=True):
        assert value(spy.scorer, sample, plan) >= value(spy.scorer, sample, ()) - 1e-6


@every_optimiser
def test_blind_with_the_label_free_reward(
    make: Callable[..., Search], toolbox: Toolbox, samples: list[Sample]
) -> None:
    scorer = PlanScorer(toolbox, "label_free")
    blind = [sample.blind() for sample in samples[:2]]
    for sample, plan in zip(blind, make(max_tools=1).search(blind, scorer), strict=True):
        # Batching may move a metric, hence R_q, by up to .02.
        assert value(scorer, sample, plan) >= value(scorer, sample, ()) - 0.02


@pytest.mark.parametrize("name", TOLD)
def test_who_must_be_told_says_so(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    with pytest.raises(SampleError, match=r"must be told.*leave this agent out"):
        make().search([samples[0].blind()], scorer)


@pytest.mark.parametrize("name", TOLD)
def test_who_is_told_tries_nothing(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    make().search(samples, scorer)
    assert scorer.images_scored == 0 and scorer.tools_run == 0


def test_longer_search_finds_no_worse(toolbox: Toolbox, scorer: PlanScorer, samples: list[Sample]) -> None:
    """At equal length exhaustive >= beam >= greedy, sample by sample."""
    chosen = {
        name: make_agent(name, toolbox=toolbox, max_tools=2, max_length=2, width=2).search(samples, scorer)
        for name in ("greedy", "beam", "exhaustive")
    }
    for index, sample in enumerate(samples):
        greedy, beam, exhaustive = (value(scorer, sample, plans[index]) for plans in chosen.values())
        assert exhaustive >= beam - 1e-4 and beam >= greedy - 1e-4
