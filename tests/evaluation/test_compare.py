"""Comparisons of agents: records, costs, regret, and the contract of agents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from opera_baselines.greedy import Greedy
from opera_env.errors import PlanParseError, SettingError
from opera_env.evaluation.compare import Comparison, EvaluationConfig, compare_agents
from opera_env.evaluation.report import summarise
from opera_env.metrics import MetricSuite
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample

CONFIG = EvaluationConfig(reward="classic", max_tools=2, frozen_beam_width=2)


@pytest.fixture(scope="module")
def comparison(samples: list[Sample], make_toolbox: Any) -> Comparison:
    names = ("untouched", "random", "matched", "greedy", "beam", "exhaustive", "greedy-blind")
    return compare_agents(names, samples, make_toolbox(), CONFIG)


def rewards(comparison: Comparison, agent: str) -> np.ndarray:
    return np.array([record.reward for record in comparison.records if record.agent == agent])


def test_records_are_complete_and_in_order(comparison: Comparison, samples: list[Sample]) -> None:
    specs = [sample.spec for sample in samples]
    for agent in comparison.costs:
        assert [record.spec for record in comparison.records if record.agent == agent] == specs


def test_wider_searches_earn_at_least_as_much(comparison: Comparison) -> None:
    greedy, beam, exhaustive = (rewards(comparison, name) for name in ("greedy", "beam", "exhaustive"))
    assert (exhaustive >= beam - 1e-3).all()
    assert (beam >= greedy - 1e-3).all()
    assert (greedy >= rewards(comparison, "untouched") - 1e-3).all()


def test_plans_of_the_frozen_set_have_no_negative_regret(comparison: Comparison) -> None:
    for record in comparison.records:
        assert record.regret is not None
        if len(record.plan) <= 2:
            assert record.regret >= 0


def test_exhaustive_search_has_no_regret(comparison: Comparison) -> None:
    regrets = [record.regret for record in comparison.records if record.agent == "exhaustive"]
    assert regrets == pytest.approx([0.0] * len(regrets), abs=0.02)


def test_regret_does_not_depend_on_the_agents_compared(
    comparison: Comparison, samples: list[Sample]
) -> None:
    def regrets_of_untouched(actual: Comparison) -> list[float | None]:
        return [record.regret for record in actual.records if record.agent == "untouched"]

    # Fresh tools of the same definition: the fingerprint of plain modules is that of their weights.
    alone = compare_agents(["untouched"], samples, _same_toolbox(), CONFIG)
    assert regrets_of_untouched(alone) == pytest.approx(regrets_of_untouched(comparison), abs=0.02)
    assert alone.frozen_set_size == comparison.frozen_set_size


def _same_toolbox() -> Toolbox:
    from tests.conftest import tiny_toolbox

    return tiny_toolbox()


def test_costs_are_counted_for_each_agent(comparison: Comparison, samples: list[Sample]) -> None:
    costs = comparison.costs
    assert (costs["untouched"].images_scored, costs["random"].images_scored) == (0, 0)
    distinct = len(all_plans("abcde", 2)) * len(samples)
    assert costs["exhaustive"].images_scored == distinct
    assert 0 < costs["greedy"].images_scored < distinct
    assert costs["greedy"].tools_run <= costs["greedy"].images_scored


def test_blind_search_chooses_by_the_label_free_score(
    comparison: Comparison, samples: list[Sample]
) -> None:
    toolbox = _same_toolbox()
    blind = Greedy(max_tools=2).search([s.blind() for s in samples], PlanScorer(toolbox, "label_free"))
    plans = [record.plan for record in comparison.records if record.agent == "greedy-blind"]
    assert plans == blind


def test_rewards_and_searches_use_the_tool_cost(samples: list[Sample], toolbox: Toolbox) -> None:
    config = EvaluationConfig(reward="classic", max_tools=2, tool_cost=0.3, regret=False)
    for record in compare_agents(["random", "greedy"], samples, toolbox, config).records:
        assert record.reward == pytest.approx(record.r_q - 0.3 * len(record.plan))
        assert record.regret is None


def test_an_unreadable_answer_is_counted(samples: list[Sample], toolbox: Toolbox) -> None:
    class UnreadableAgent:
        closed_loop = False

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return [Decision((), error=PlanParseError("no tags")) for _ in observations]

    actual = compare_agents(
        {"unreadable": UnreadableAgent()}, samples, toolbox, EvaluationConfig("classic", regret=False)
    )
    assert [record.error for record in actual.records] == ["no tags"] * len(samples)
    assert summarise(actual)["agents"]["unreadable"]["errors"] == len(samples)


def test_a_closed_loop_agent_observes_no_scores(samples: list[Sample], toolbox: Toolbox) -> None:
    """It is shown the results of its tools, so they count as tool runs and not as scored images."""

    class BlurOnce:
        closed_loop = True

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return [Decision(() if seen.used else ("tiny.blur",)) for seen in observations]

    config = EvaluationConfig("classic", regret=False)
    cost = compare_agents({"closed": BlurOnce()}, samples, toolbox, config).costs["closed"]
    assert cost.images_scored == 0
    assert cost.tools_run == len(samples)


def test_no_metric_is_computed_while_a_closed_loop_agent_decides(
    samples: list[Sample], toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seconds are its own; and it observes the images that are scored in the end."""
    scorer, calls = PlanScorer(toolbox, "classic"), []

    class ObserveTwice:
        closed_loop = True

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            calls.extend(observations)
            return [Decision(() if len(seen.used) == 2 else ("tiny.blur",)) for seen in observations]

    def count(suite: MetricSuite, *args: Any) -> Any:
        assert len(calls) == 3 * len(samples), "only when the agent has ended"
        return compute(suite, *args)

    compute = MetricSuite.__call__
    monkeypatch.setattr(MetricSuite, "__call__", count)
    config = EvaluationConfig("classic", regret=False)
    comparison = compare_agents({"closed": ObserveTwice()}, samples, toolbox, config)
    assert comparison.costs["closed"].tools_run == 2 * len(samples)
    monkeypatch.undo()
    for sample, seen in zip(samples, calls[-len(samples) :], strict=True):
        assert torch.equal(seen.image, scorer.score([sample], [("tiny.blur",) * 2])[0].image())


def test_an_unreadable_answer_of_a_closed_loop_agent_is_counted(
    samples: list[Sample], toolbox: Toolbox
) -> None:
    class Unreadable:
        closed_loop = True

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return [Decision((), error=PlanParseError("no tags")) for _ in observations]

    config = EvaluationConfig("classic", regret=False)
    actual = compare_agents({"unreadable": Unreadable()}, samples, toolbox, config)
    assert summarise(actual)["agents"]["unreadable"]["errors"] == len(samples)


@pytest.mark.parametrize(
    "setting",
    [
        {"max_tools": 0},
        {"tool_cost": float("nan")},
        {"num_plans": 0},
        {"seed": -1},
        {"frozen_beam_width": 0},
    ],
    ids=str,
)
def test_settings_out_of_their_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="expected a number of at least"):
        EvaluationConfig(**setting)
