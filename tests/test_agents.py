"""The registry of agents and run_agent: names, imports, open-loop and closed-loop agents, errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opera_baselines.exhaustive import Exhaustive
from opera_baselines.untouched import Untouched
from opera_env.agents import agent_names, label_free_scorer, make_agent, run_agent
from opera_env.errors import AgentError, ToolFailedError, UnknownPresetError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Decision, Observation, Plan, Sample, Scorer


class FixedPlans:
    """An open-loop agent that returns the same plans for every call."""

    closed_loop = False

    def __init__(self, *plans: Plan) -> None:
        self.plans = plans

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan) for plan in self.plans]


class BrightenTwice:
    """A closed-loop agent that records its observations."""

    closed_loop = True

    def __init__(self) -> None:
        self.calls: list[Sequence[Observation]] = []

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        self.calls.append(observations)
        return [
            Decision(("tiny.brighten",) if len(observation.used) < 2 else ())
            for observation in observations
        ]


class NeverStops:
    """A closed-loop agent that always chooses two more tools."""

    closed_loop = True

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(("tiny.blur",) * 2) for _ in observations]


class OneToolSearch:
    """A search that returns decisions with a prediction."""

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        return [decision.plan for decision in self.decide(samples, scorer)]

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        return [Decision((scorer.tool_names[0],), frozenset({"rust"})) for _ in samples]


class NeedsMore:
    """An agent that needs an argument which no command passes."""

    def __init__(self, seed: int, weights: str) -> None: ...


READY = FixedPlans(())


class Returns:
    """An agent, or a search, that returns what it is given or raises it."""

    def __init__(self, answer: Any, closed_loop: bool = False) -> None:
        self.answer, self.closed_loop = answer, closed_loop

    def act(self, observations: Sequence[Observation]) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class SearchReturns(Returns):
    """A search that does so."""

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> Any:
        return self.act([])


@pytest.fixture
def scorer(toolbox: Toolbox) -> PlanScorer:
    return PlanScorer(toolbox, "classic")


def test_installed_agents_are_made_with_the_options_they_name() -> None:
    assert {"untouched", "exhaustive", "random"} <= set(agent_names())
    agent = make_agent("exhaustive", max_tools=1, seed=3)
    assert isinstance(agent, Exhaustive)
    assert agent.max_length == 1


def test_any_importable_class_is_an_agent() -> None:
    assert isinstance(make_agent("opera_baselines.untouched:Untouched"), Untouched)


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("nobody", UnknownPresetError, "untouched"),
        ("opera_baselines.untouched:Nothing", AgentError, "cannot be imported"),
        ("no_such_module:Agent", AgentError, "cannot be imported"),
        ("collections:UserDict", AgentError, "expected act"),
        ("math:pi", AgentError, "expected a class or function"),
        ("random:runs/own", AgentError, "'random' takes no path or tool"),
        ("fractions:Decimal", AgentError, "expected act"),
        ("tests.test_agents:NeedsMore", AgentError, "made with seed, raised TypeError.*'weights'"),
        ("opera_env.plan:PlanCodec", AgentError, "made with no arguments, raised TypeError"),
    ],
)
def test_names_that_are_no_agent_raise(name: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        make_agent(name, seed=0)


def test_an_agent_that_exists_already_is_taken() -> None:
    assert make_agent("tests.test_agents:READY") is READY


@pytest.mark.parametrize("name", ["module_in_this_folder", "package_in_this_folder.agent"])
def test_an_agent_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An installed command does not search the current folder by itself, unlike ``python -m``."""
    path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("class Agent: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    with pytest.raises(AgentError, match="expected act"):
        make_agent(f"{name}:Agent")


NO_LIST = r"expected .*Returns.act\(observations\) to return a list, found "
NO_DECISION = (
    r"expected .*Returns.act\(observations\) to return objects of opera_env.types.Decision, found "
)
NO_PLAN = r"expected each plan of .*act.* to be a tuple of names of tools.*, found "


@pytest.mark.parametrize("closed_loop", [False, True])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, NO_LIST + "None"),
        (3, NO_LIST + "3"),
        ("unet.denoise", NO_LIST + "'unet.denoise'"),
        (Decision(()), NO_LIST + "Decision"),
        ({0: Decision(())}, NO_LIST + "{0: "),
        ([None], NO_DECISION + "None"),
        (["unet.denoise"], NO_DECISION + "'unet.denoise'"),
        ([("tiny.blur",)], NO_DECISION + r"\('tiny.blur',\)"),
        (np.zeros((1, 64, 64)), NO_DECISION + r"ndarray of shape \(64, 64\)"),
        ([Decision("tiny.blur")], NO_PLAN + "'tiny.blur'"),  # pyright: ignore[reportArgumentType]
        ([Decision(["tiny.blur"])], NO_PLAN + r"\['tiny.blur'\]"),  # pyright: ignore[reportArgumentType]
        ([Decision((1, 2))], NO_PLAN + r"\(1, 2\)"),  # pyright: ignore[reportArgumentType]
        ([Decision(("unet.denoise",))], r"chose the unknown tool 'unet.denoise': expected tiny.brighten, "),
        (KeyError("weights"), r"Returns.act\(observations\) raised KeyError: 'weights'"),
        ([Decision(())] * 2, r"expected 1 plans, one per image, of .*Returns.*, found 2"),
    ],
    ids=repr,
)
def test_an_agent_that_returns_no_decisions_raises(
    samples: list[Sample], scorer: PlanScorer, closed_loop: bool, answer: Any, reason: str
) -> None:
    with pytest.raises(AgentError, match=reason) as caught:
        run_agent(Returns(answer, closed_loop), samples[:1], scorer, max_tools=6)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "to return a list, found None"),
        ([None], "each plan of .*SearchReturns.search.samples, scorer. to be a tuple.*, found None"),
        ([Decision(())], "to be a tuple.*, found Decision"),
        (["tiny.blur"], "to be a tuple.*, found 'tiny.blur'"),
        ([["tiny.blur"]], r"to be a tuple.*, found \['tiny.blur'\]"),
        ([()] * 3, "expected 1 plans, .*, found 3"),
        ([("sharpen",)], "unknown tool 'sharpen'"),
        (ValueError("no\nluck"), r"SearchReturns.search\(samples, scorer\) raised ValueError: no luck"),
    ],
    ids=repr,
)
def test_a_search_that_returns_no_plans_raises(
    samples: list[Sample], scorer: PlanScorer, answer: Any, reason: str
) -> None:
    with pytest.raises(AgentError, match=reason):
        run_agent(SearchReturns(answer), samples[:1], scorer, max_tools=6)


def test_errors_of_tools_pass_through_a_search(samples: list[Sample], scorer: PlanScorer) -> None:
    with pytest.raises(ToolFailedError):
        run_agent(SearchReturns(ToolFailedError("a", (), (3, 8, 8), "why")), samples[:1], scorer, 6)


def test_an_open_loop_agent_returns_decisions(samples: list[Sample], scorer: PlanScorer) -> None:
    agent = FixedPlans(("tiny.blur",), ())
    run = run_agent(agent, samples[:2], scorer, max_tools=6)
    assert run.plans == [("tiny.blur",), ()]
    assert run.decisions == [Decision(("tiny.blur",)), Decision(())]


def test_a_search_may_return_decisions(samples: list[Sample], scorer: PlanScorer) -> None:
    run = run_agent(OneToolSearch(), samples[:2], scorer, max_tools=6)
    assert run.plans == [("tiny.brighten",)] * 2
    assert run.decisions == [Decision(("tiny.brighten",), frozenset({"rust"}))] * 2


def test_a_closed_loop_agent_observes_the_results_of_its_tools(
    samples: list[Sample], scorer: PlanScorer
) -> None:
    agent = BrightenTwice()
    run = run_agent(agent, samples, scorer, max_tools=5)
    assert run.plans == [("tiny.brighten", "tiny.brighten")] * len(samples)
    assert run.decisions == [None] * len(samples)
    first, second, _ = agent.calls
    assert (first[0].steps_left, second[0].steps_left) == (5, 4)
    assert second[0].image.mean() > first[0].image.mean()
    assert second[0].original.equal(first[0].original)


def test_a_closed_loop_agent_may_name_degradations(samples: list[Sample], scorer: PlanScorer) -> None:
    class Names(BrightenTwice):
        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return [replace(each, degradations=self.named(each)) for each in super().act(observations)]

        def named(self, decision: Decision) -> frozenset[str] | None:
            return frozenset({"rust"}) if decision.plan else None

    run = run_agent(Names(), samples[:2], scorer, max_tools=5)
    assert run.decisions == [Decision(("tiny.brighten",) * 2, frozenset({"rust"}))] * 2


def test_a_closed_loop_agent_ends_when_no_steps_are_left(samples: list[Sample], scorer: PlanScorer) -> None:
    assert run_agent(NeverStops(), samples[:1], scorer, max_tools=3).plans == [("tiny.blur",) * 3]


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (FixedPlans(), "expected 1 plans, one per image, of .*, found 0"),
        (FixedPlans((), ()), "expected 1 plans, one per image, of .*, found 2"),
        (FixedPlans(("tiny.blur",) * 9), "at most 6 tools, found one of 9"),
    ],
    ids=["few", "many", "long"],
)
def test_wrong_numbers_and_lengths_of_plans_raise(
    samples: list[Sample], scorer: PlanScorer, agent: Agent, reason: str
) -> None:
    with pytest.raises(AgentError, match=reason):
        run_agent(agent, samples[:1], scorer, max_tools=6)


def test_the_label_free_scorer_needs_no_reference(samples: list[Sample], scorer: PlanScorer) -> None:
    blind = label_free_scorer(scorer)
    assert blind.toolbox is scorer.toolbox
    (outcome,) = blind.score([samples[0].blind()], [("tiny.blur",)])
    assert set(outcome.terms) == {"critic"}
