"""Comparisons: who plays what, at what price, and how sure the figures are."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from opera_baselines.exhaustive import Exhaustive
from opera_baselines.greedy import Greedy
from opera_baselines.untouched import Untouched
from opera_env.agents import make_agent, run_agent
from opera_env.errors import AgentError, PlanParseError, UnknownPresetError
from opera_env.evaluation.compare import Comparison, EvaluationConfig, compare_agents, summarise
from opera_env.evaluation.scorers import CachingScorer
from opera_env.evaluation.stats import bootstrap_interval
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


def test_searches_rank_as_they_must(comparison: Comparison) -> None:
    greedy, beam, exhaustive = (rewards(comparison, name) for name in ("greedy", "beam", "exhaustive"))
    assert (exhaustive >= beam - 1e-3).all()
    assert (beam >= greedy - 1e-3).all()
    assert (greedy >= rewards(comparison, "untouched") - 1e-3).all()


def test_nobody_who_stays_in_the_frozen_set_has_negative_regret(comparison: Comparison) -> None:
    for record in comparison.records:
        assert record.regret is not None
        if len(record.plan) <= 2:
            assert record.regret >= 0


def test_the_best_of_all_has_no_regret(comparison: Comparison) -> None:
    regrets = [record.regret for record in comparison.records if record.agent == "exhaustive"]
    assert regrets == pytest.approx([0.0] * len(regrets), abs=0.02)


def test_regret_does_not_depend_on_who_plays(comparison: Comparison, samples: list[Sample]) -> None:
    def of_untouched(found: Comparison) -> list[float | None]:
        return [record.regret for record in found.records if record.agent == "untouched"]

    # Fresh tools of the same definition: the fingerprint of plain modules is that of their weights.
    alone = compare_agents(["untouched"], samples, _same_toolbox(), CONFIG)
    assert of_untouched(alone) == pytest.approx(of_untouched(comparison), abs=0.02)
    assert alone.frozen_set_size == comparison.frozen_set_size


def _same_toolbox() -> Toolbox:
    from tests.conftest import tiny_toolbox

    return tiny_toolbox()


def test_prices_are_the_agents_own(comparison: Comparison, samples: list[Sample]) -> None:
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
    played = [record.plan for record in comparison.records if record.agent == "greedy-blind"]
    assert played == blind


def test_summary_is_json_and_has_the_promised_keys(comparison: Comparison) -> None:
    summary = json.loads(json.dumps(summarise(comparison), allow_nan=True))
    assert set(summary) == {"agents", "groups", "differences", "config"}
    row = summary["agents"]["greedy"]
    promised = {"reward", "psnr_y", "tools", "images_scored", "seconds", "regret"}
    assert promised <= set(row)
    assert set(row["reward"]) == {"mean", "low", "high"}
    assert row["reward"]["mean"] == pytest.approx(rewards(comparison, "greedy").mean())
    assert "exhaustive - matched" in summary["differences"]
    assert summary["config"]["fingerprint"]


def test_tool_cost_is_taken_everywhere(samples: list[Sample], toolbox: Toolbox) -> None:
    config = EvaluationConfig(reward="classic", max_tools=2, tool_cost=0.3, regret=False)
    for record in compare_agents(["random", "greedy"], samples, toolbox, config).records:
        assert record.reward == pytest.approx(record.r_q - 0.3 * len(record.plan))
        assert record.regret is None


def test_an_answer_that_is_no_plan_is_counted(samples: list[Sample], toolbox: Toolbox) -> None:
    class Babbling:
        closed_loop = False

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return [Decision((), error=PlanParseError("no tags")) for _ in observations]

    found = compare_agents(
        {"babbling": Babbling()}, samples, toolbox, EvaluationConfig("classic", regret=False)
    )
    assert [record.error for record in found.records] == ["no tags"] * len(samples)
    assert summarise(found)["agents"]["babbling"]["errors"] == len(samples)


def test_a_closed_loop_agent_sees_what_its_tools_did(samples: list[Sample], toolbox: Toolbox) -> None:
    seen: list[list[Observation]] = []

    class BrightenTwice:
        closed_loop = True

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            seen.append(list(observations))
            return [Decision(("tiny.brighten",) if len(o.used) < 2 else ()) for o in observations]

    played = run_agent(BrightenTwice(), samples, PlanScorer(toolbox, "classic"), max_tools=5)
    assert played.plans == [("tiny.brighten", "tiny.brighten")] * len(samples)
    assert len(seen) == 3
    first, second, _ = seen
    assert (first[0].steps_left, second[0].steps_left) == (5, 4)
    assert second[0].image.mean() > first[0].image.mean()
    assert second[0].original.equal(first[0].original)


def test_steps_run_out(samples: list[Sample], toolbox: Toolbox) -> None:
    class Tireless:
        closed_loop = True

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return [Decision(("tiny.blur",) * 2) for _ in observations]

    assert run_agent(Tireless(), samples[:1], PlanScorer(toolbox, "classic"), 3).plans == [
        ("tiny.blur",) * 3
    ]


def test_wrong_answers_are_errors(samples: list[Sample], toolbox: Toolbox) -> None:
    class TooFew:
        closed_loop = False

        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return []

    class TooLong(TooFew):
        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            return [Decision(("tiny.blur",) * 9) for _ in observations]

    scorer = PlanScorer(toolbox, "classic")
    for agent in (TooFew(), TooLong()):
        with pytest.raises(AgentError):
            run_agent(agent, samples, scorer, max_tools=6)


def test_agents_by_name() -> None:
    assert isinstance(make_agent("opera_baselines.untouched:Untouched"), Untouched)
    made = make_agent("exhaustive", max_tools=1, seed=3)
    assert isinstance(made, Exhaustive)
    assert made.max_length == 1
    with pytest.raises(UnknownPresetError, match="untouched"):
        make_agent("nobody")
    with pytest.raises(AgentError, match="cannot be imported"):
        make_agent("opera_baselines.untouched:Nothing")
    with pytest.raises(AgentError, match="expected act"):
        make_agent("collections:UserDict")
    with pytest.raises(AgentError, match="expected a class or function"):
        make_agent("math:pi")
    with pytest.raises(AgentError, match="'random' is not trained"):
        make_agent("random:runs/mine")


def test_a_ledger_asks_once(samples: list[Sample], toolbox: Toolbox) -> None:
    scorer = PlanScorer(toolbox, "classic")
    ledger = CachingScorer(scorer)
    first = ledger.score(samples, [("tiny.blur",)] * len(samples))
    count = scorer.images_scored
    again = ledger.score(samples, [("tiny.blur",)] * len(samples))
    assert scorer.images_scored == count == len(samples)
    assert [outcome.r_q for outcome in again] == [outcome.r_q for outcome in first]


def test_the_interval_resamples_images_not_samples() -> None:
    """Ten equal samples of each of four images are worth four, not forty."""
    rng = np.random.default_rng(0)
    per_image = rng.normal(size=4)
    values = np.repeat(per_image, 10)
    images = [("s", index) for index in range(4) for _ in range(10)]
    clustered = bootstrap_interval(list(values), images)
    naive = bootstrap_interval(list(values), [("s", index) for index in range(40)])
    assert clustered.mean == naive.mean == pytest.approx(per_image.mean())
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


def test_the_interval_covers_the_mean() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        found = bootstrap_interval(list(rng.normal(size=40)), [("s", index) for index in range(40)], seed)
        hits += found.low <= 0 <= found.high
    assert hits >= 50


def test_one_image_has_no_interval() -> None:
    found = bootstrap_interval([1.0, 2.0], [("s", 0), ("s", 0)])
    assert found.mean == 1.5
    assert np.isnan(found.low)
