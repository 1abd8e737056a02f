"""Contract of every installed search: one plan for each sample, never worse than the untouched image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import Tensor

from opera_agents.mcts import Mcts
from opera_baselines.greedy import Greedy
from opera_baselines.recipe_best import PlanTable
from opera_env.agents import ENTRY_POINT_GROUP, make_agent
from opera_env.errors import SampleError
from opera_env.evaluation.agent_runs import run_compared_agent
from opera_env.evaluation.records import EvaluationConfig
from opera_env.execution import PrefixCache
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import CountingSearch, DecidingSearch, Outcome, Plan, Sample, Search

MAX_TOOLS = 2
SEARCHES = [
    point.name for point in entry_points(group=ENTRY_POINT_GROUP) if hasattr(point.load(), "search")
]
LABEL_READERS = ("matched", "recipe_best")
"""Searches that read the degradations of a sample and score no plan."""
NAMES = {"mcts": "mcts:uniform"}
"""With what follows the colon where a search needs it: no planner was trained for the tiny toolbox."""
LITERATURE = ("agenticir", "restoreagent", "qagent", "mair", "4kagent")
"""Searches that look at images, and try tools for what they see alone."""
QUALITY_LED = ("restoreagent", "qagent", "mair")
"""Those of them that keep a step only if the judge does not prefer the image before."""

every_search = pytest.mark.parametrize("name", SEARCHES)
every_scoring_search = pytest.mark.parametrize(
    "name", [name for name in SEARCHES if name not in LABEL_READERS]
)
every_optimiser = pytest.mark.parametrize(
    "name", [name for name in SEARCHES if name not in (*LABEL_READERS, *LITERATURE)]
)


def _nearness(images: Tensor, references: Tensor) -> Tensor:
    return 1 - (images - references).abs().mean((1, 2, 3))


def _greyness(images: Tensor) -> Tensor:
    return 1 - (images - 0.5).abs().mean((1, 2, 3))


NEAR = Reward("near", (RewardTerm(FunctionMetric("near", _nearness, 0.0, needs_reference=True), 0, 1, 10),))
"""A fast reward that needs a reference."""

GREY = Reward("grey", (RewardTerm(FunctionMetric("grey", _greyness, 0.0), 0, 1, 10),))
"""A fast reward that needs no reference."""


class RecordingScorer:
    """A scorer that records its requests."""

    def __init__(self, scorer: PlanScorer) -> None:
        self.scorer = scorer
        self.requests: list[tuple[Sample, Plan]] = []

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self.scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        self.requests += zip(samples, plans, strict=True)
        return self.scorer.score(samples, plans, restored=restored)


@pytest.fixture
def table(toolbox: Toolbox, samples: list[Sample]) -> PlanTable:
    """Three tools for each recipe of the samples; the shipped table is for another toolbox."""
    identity = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    plans = {sample.spec.recipe: toolbox.names[:3] for sample in samples}
    return PlanTable(identity, reward="near", command="by hand", images=0, plans=plans)


@pytest.fixture
def make(name: str, toolbox: Toolbox, table: PlanTable) -> Callable[..., Search]:
    def search(**options: Any) -> Search:
        offered = {"toolbox": toolbox, "max_tools": MAX_TOOLS, "seed": 0, "table": table}
        agent = make_agent(NAMES.get(name, name), **offered | options)
        assert isinstance(agent, Search)
        return agent

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
def test_plans_keep_to_max_tools(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample], max_tools: int
) -> None:
    recorder = RecordingScorer(scorer)
    plans = make(max_tools=max_tools).search(samples[:2], recorder)
    assert max(map(len, plans)) <= max_tools
    assert all(len(plan) <= max_tools for _, plan in recorder.requests)


@every_search
def test_search_is_deterministic(
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
def test_plans_do_not_depend_on_the_batch(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    """A plan found in a batch is as good as one found alone; batching may change R_q by 0.02."""
    together = make().search(samples, scorer)
    for sample, plan in zip(samples, together, strict=True):
        (alone,) = make().search([sample], scorer)
        assert value(scorer, sample, plan) == pytest.approx(value(scorer, sample, alone), abs=0.02)


@every_search
def test_samples_are_not_modified(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    before = [(sample.lq.clone(), sample.key) for sample in samples]
    make().search(samples, scorer)
    for sample, (image, key) in zip(samples, before, strict=True):
        assert torch.equal(sample.lq, image) and sample.key == key


@pytest.mark.parametrize(
    "name", [name for name in SEARCHES if name in QUALITY_LED or name not in (*LABEL_READERS, *LITERATURE)]
)
@pytest.mark.parametrize("tool_cost", [0.0, 0.05, 5.0])
def test_never_worse_than_the_untouched_image(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample], tool_cost: float
) -> None:
    plans = make(tool_cost=tool_cost).search(samples, scorer)
    for sample, plan in zip(samples, plans, strict=True):
        assert value(scorer, sample, plan, tool_cost) >= value(scorer, sample, (), tool_cost) - 1e-6
    if tool_cost == 5.0:
        assert plans == [()] * len(samples)  # No tool improves R_q that much.


@every_optimiser
def test_the_plan_is_at_least_as_good_as_the_best_single_tool(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    plans = make().search(samples, scorer)
    assert any(plans)
    for sample, plan in zip(samples, plans, strict=True):
        best = max(value(scorer, sample, (name,)) for name in scorer.tool_names)
        assert value(scorer, sample, plan) >= best - 1e-3


@every_scoring_search
def test_the_returned_plan_was_scored(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    recorder = RecordingScorer(scorer)
    plans = make().search(samples, recorder)
    scored = {(sample.key, plan) for sample, plan in recorder.requests}
    assert all((sample.key, plan) in scored for sample, plan in zip(samples, plans, strict=True))


@every_optimiser
@pytest.mark.parametrize("max_tools", [1, 3])
def test_no_more_plans_are_scored_than_counted(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample], max_tools: int
) -> None:
    search, recorder = make(max_tools=max_tools), RecordingScorer(scorer)
    assert isinstance(search, CountingSearch)
    search.search(samples[:1], recorder)
    most = search.count_plans(len(scorer.tool_names))
    assert len({plan for _, plan in recorder.requests}) <= most
    if not isinstance(search, Greedy | Mcts):  # which may stop before the last tool, or try all plans
        assert len({plan for _, plan in recorder.requests}) == most


@every_optimiser
def test_useless_tools_are_not_used(make: Callable[..., Search], samples: list[Sample]) -> None:
    """Of equally good plans the shortest is returned, so an identity is in no plan."""
    toolbox = Toolbox().add("tiny.nothing", torch.nn.Identity()).add("tiny.same", torch.nn.Identity())
    plans = make(toolbox=toolbox).search(samples, PlanScorer(toolbox, NEAR))
    assert plans == [()] * len(samples)


@every_optimiser
def test_blind_search_needs_neither_reference_nor_labels(
    make: Callable[..., Search], toolbox: Toolbox, samples: list[Sample]
) -> None:
    blind = [sample.blind() for sample in samples]
    recorder = RecordingScorer(PlanScorer(toolbox, GREY))
    plans = make().search(blind, recorder)
    assert all(sample.reference is None and sample.degradations is None for sample, _ in recorder.requests)
    for sample, plan in zip(blind, plans, strict=True):
        assert value(recorder.scorer, sample, plan) >= value(recorder.scorer, sample, ()) - 1e-6


@every_optimiser
def test_blind_search_with_the_label_free_reward(
    make: Callable[..., Search], toolbox: Toolbox, samples: list[Sample]
) -> None:
    scorer = PlanScorer(toolbox, "label_free")
    blind = [sample.blind() for sample in samples[:2]]
    for sample, plan in zip(blind, make(max_tools=1).search(blind, scorer), strict=True):
        # Batching may change a metric, and so R_q, by up to 0.02.
        assert value(scorer, sample, plan) >= value(scorer, sample, ()) - 0.02


@every_scoring_search
@pytest.mark.parametrize("budget", [1, 3])
def test_a_budget_is_kept(
    make: Callable[..., Search], name: str, toolbox: Toolbox, samples: list[Sample], budget: int
) -> None:
    """The scorer counts the tools that run; no plan is returned that was not tried."""
    scorer = PlanScorer(toolbox, NEAR, cache=PrefixCache())
    config = EvaluationConfig("lite", MAX_TOOLS, budget=budget)
    run = run_compared_agent(name, make(budget=budget), samples[:1], scorer, config)
    assert scorer.tools_run <= budget and scorer.images_scored <= budget + 1
    assert len(run.plans) == 1 and len(run.plans[0]) <= min(budget, MAX_TOOLS)


@pytest.mark.parametrize("name", LITERATURE)
def test_agents_of_the_literature_see_neither_references_nor_labels(
    make: Callable[..., Search], toolbox: Toolbox, samples: list[Sample]
) -> None:
    scorer = PlanScorer(toolbox, GREY)
    blind = [sample.blind() for sample in samples]
    assert make().search(samples, scorer) == make().search(blind, scorer)


@pytest.mark.parametrize("name", LITERATURE)
def test_tools_of_the_literature_are_for_what_was_seen(
    make: Callable[..., Search], toolbox: Toolbox, samples: list[Sample]
) -> None:
    """A tool that is for no degradation is never tried, and a high tool cost leaves all images alone."""
    recorder = RecordingScorer(PlanScorer(toolbox, NEAR))
    search = make()
    assert isinstance(search, DecidingSearch)
    decisions = search.decide(samples, recorder)
    assert any(decision.degradations for decision in decisions)
    assert all("tiny.identity" not in plan for _, plan in recorder.requests)
    assert make(tool_cost=11.0).search(samples, recorder) == [()] * len(samples)


@pytest.mark.parametrize("name", LABEL_READERS)
def test_label_readers_raise_if_degradations_are_unknown(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    with pytest.raises(SampleError, match=r"needs the degradations.*leave this agent out"):
        make().search([samples[0].blind()], scorer)


@pytest.mark.parametrize("name", LABEL_READERS)
def test_label_readers_score_nothing(
    make: Callable[..., Search], scorer: PlanScorer, samples: list[Sample]
) -> None:
    make().search(samples, scorer)
    assert scorer.images_scored == 0 and scorer.tools_run == 0


def test_exhaustive_is_no_worse_than_beam_and_beam_than_greedy(
    toolbox: Toolbox, scorer: PlanScorer, samples: list[Sample]
) -> None:
    """At equal plan length, for each sample."""
    chosen = {
        name: make_agent(name, toolbox=toolbox, max_tools=2, max_length=2, width=2).search(samples, scorer)
        for name in ("greedy", "beam", "exhaustive")
    }
    for index, sample in enumerate(samples):
        greedy, beam, exhaustive = (value(scorer, sample, plans[index]) for plans in chosen.values())
        assert exhaustive >= beam - 1e-4 and beam >= greedy - 1e-4
