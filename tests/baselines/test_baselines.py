"""What each baseline promises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from opera_baselines.beam import Beam
from opera_baselines.exhaustive import Exhaustive
from opera_baselines.fixed_order import FixedOrder
from opera_baselines.greedy import Greedy
from opera_baselines.matched import Matched
from opera_baselines.order import DOMAIN_ORDER
from opera_baselines.random import RandomPlans
from opera_baselines.untouched import Untouched
from opera_env.degradations import DEGRADATIONS
from opera_env.envs.observation import Episode, observe
from opera_env.errors import SampleError
from opera_env.evaluation.scorers import CachingScorer
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Observation, Sample


@pytest.fixture
def observations(samples: list[Sample]) -> list[Observation]:
    return [observe(Episode(sample), 6) for sample in samples]


@pytest.fixture
def ledger(toolbox: Toolbox) -> CachingScorer:
    return CachingScorer(PlanScorer(toolbox, "classic"))


def test_untouched(observations: list[Observation]) -> None:
    assert [decision.plan for decision in Untouched().act(observations)] == [()] * len(observations)


def test_random_draws_the_length_first(toolbox: Toolbox, observations: list[Observation]) -> None:
    agent = RandomPlans(toolbox, max_tools=3, seed=1)
    lengths = [len(decision.plan) for _ in range(500) for decision in agent.act(observations)]
    shares = np.bincount(lengths, minlength=4) / len(lengths)
    assert shares == pytest.approx([0.25] * 4, abs=0.04)


def test_random_repeats_with_its_seed(toolbox: Toolbox, observations: list[Observation]) -> None:
    def plans(seed: int) -> list[tuple[str, ...]]:
        agent = RandomPlans(toolbox, seed=seed)
        return [decision.plan for _ in range(10) for decision in agent.act(observations)]

    assert plans(3) == plans(3) != plans(4)


def test_domain_order_undoes_last_what_happened_first() -> None:
    assert sorted(DOMAIN_ORDER) == sorted(DEGRADATIONS)
    assert DOMAIN_ORDER.index("jpeg") < DOMAIN_ORDER.index("motion_blur") < DOMAIN_ORDER.index("haze")


def test_fixed_order_is_one_plan_and_fits(toolbox: Toolbox, observations: list[Observation]) -> None:
    plans = {decision.plan for decision in FixedOrder(toolbox, max_tools=3).act(observations)}
    assert len(plans) == 1
    assert len(plans.pop()) == 3


def test_matched_takes_one_tool_for_each_degradation(samples: list[Sample], ledger: CachingScorer) -> None:
    toolbox = ledger.scorer.toolbox
    for sample, plan in zip(samples, Matched(toolbox).search(samples, ledger), strict=True):
        assert sample.degradations is not None
        meant = [next(iter(toolbox[name].degradations & sample.degradations), None) for name in plan]
        assert None not in meant
        assert len(meant) == len(set(meant))


def test_matched_must_be_told(samples: list[Sample], ledger: CachingScorer) -> None:
    with pytest.raises(SampleError, match="leave this agent out"):
        Matched(ledger.scorer.toolbox).search([samples[0].blind()], ledger)


@pytest.mark.parametrize("tool_cost", [0.0, 0.1])
def test_exhaustive_beats_beam_beats_greedy_at_equal_length(
    samples: list[Sample], ledger: CachingScorer, tool_cost: float
) -> None:
    def reward(plans: list[tuple[str, ...]]) -> np.ndarray:
        return np.array(
            [
                outcome.r_q - tool_cost * len(plan)
                for outcome, plan in zip(ledger.score(samples, plans), plans, strict=True)
            ]
        )

    options: dict[str, Any] = {"max_tools": 3, "tool_cost": tool_cost}
    greedy = reward(Greedy(**options).search(samples, ledger))
    beam = reward(Beam(width=2, **options).search(samples, ledger))
    exhaustive = reward(Exhaustive(max_length=3, **options).search(samples, ledger))
    untouched = reward([()] * len(samples))
    assert (exhaustive >= beam).all()
    assert (beam >= greedy).all()
    assert (greedy >= untouched).all()
    assert (greedy > untouched).any()


def test_a_tool_must_earn_its_cost(samples: list[Sample], ledger: CachingScorer) -> None:
    for search in (
        Greedy(tool_cost=100.0),
        Beam(tool_cost=100.0, max_tools=2),
        Exhaustive(tool_cost=100.0),
    ):
        assert search.search(samples, ledger) == [()] * len(samples)


def test_a_margin_prefers_the_shorter_plan(samples: list[Sample], ledger: CachingScorer) -> None:
    strict = Exhaustive(max_length=2).search(samples, ledger)
    lenient = Exhaustive(max_length=2, margin=1.0).search(samples, ledger)
    assert sum(map(len, lenient)) < sum(map(len, strict))


def test_exhaustive_never_exceeds_the_longest_plan_allowed() -> None:
    assert Exhaustive(max_length=4, max_tools=1).max_length == 1


def test_searches_work_blind(samples: list[Sample], make_toolbox: Callable[[], Toolbox]) -> None:
    scorer = PlanScorer(make_toolbox(), "label_free")
    plans = Greedy(max_tools=2).search([sample.blind() for sample in samples], scorer)
    assert len(plans) == len(samples)
