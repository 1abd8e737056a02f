"""Batches come in order, made ahead, and say what became of each decision."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.rollout import collect_rollout, draw_samples, prefetch
from opera_agents.planner.saved import PolicyCard
from opera_env.data import Source
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox


@pytest.mark.parametrize("steps", [range(0), range(1), range(3, 8), range(0, 10, 3)])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(steps: range, workers: int) -> None:
    assert list(prefetch(lambda step: step * 10, steps, workers)) == [step * 10 for step in steps]


def test_the_next_batch_is_made_while_one_is_in_use() -> None:
    made = {step: threading.Event() for step in range(3)}
    for step in prefetch(lambda step: made[step].set() or step, range(3)):
        assert step == 2 or made[step + 1].wait(timeout=10)


def test_what_fails_in_the_background_fails_in_its_turn() -> None:
    def make(step: int) -> int:
        return 1 // (2 - step)

    batches = prefetch(make, range(5))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_a_batch_is_a_function_of_seed_and_policy(
    source: Source, toolbox: Toolbox, configure: Callable[..., PlannerConfig]
) -> None:
    torch.manual_seed(0)
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    planner = Planner(card.build().eval(), card, 3)
    samples = draw_samples(source, 2, (0, 1))
    config = configure(group=3)
    first, again, other = (
        collect_rollout(planner, PlanScorer(toolbox, "classic"), samples, config, seed)
        for seed in (5, 5, 6)
    )
    assert torch.equal(first.draft.tokens, again.draft.tokens)
    assert torch.equal(first.paired, again.paired)
    assert not torch.equal(first.draft.tokens, other.draft.tokens)
    assert first.paired.shape == (2, 3, 3) and len(first.outcomes) == 6
    for row, (outcome, decision) in enumerate(zip(first.outcomes, first.decisions, strict=True)):
        assert outcome.tools_run == len(decision.plan)
        group, place = divmod(row, 3)
        named = decision.degradations == samples[group].degradations
        assert first.paired[group, place, place] <= outcome.r_q + 1e-5
        assert not named or first.paired[group, place, place].item() == pytest.approx(outcome.r_q, rel=1e-5)
