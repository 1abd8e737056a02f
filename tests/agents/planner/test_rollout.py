"""A rollout is a function of its seed, and holds the outcome of each decision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from opera_agents.common.batches import draw_samples
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.rollout import collect_rollout
from opera_agents.planner.saved import PolicyCard
from opera_env.data import Source
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox


def test_rollout_is_a_function_of_seed_and_policy(
    source: Source, toolbox: Toolbox, configure: Callable[..., PlannerConfig]
) -> None:
    torch.manual_seed(0)
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    planner = Planner(card.build().eval(), card, 3)
    samples = draw_samples(source, 2, np.random.default_rng((0, 1)))
    config = configure(group_size=3)
    first, again, other = (
        collect_rollout(planner, PlanScorer(toolbox, "classic"), samples, config, seed)
        for seed in (5, 5, 6)
    )
    assert torch.equal(first.sampled_plans.tokens, again.sampled_plans.tokens)
    assert torch.equal(first.pair_rewards, again.pair_rewards)
    assert not torch.equal(first.sampled_plans.tokens, other.sampled_plans.tokens)
    assert first.pair_rewards.shape == (2, 3, 3) and len(first.outcomes) == 6
    for row, (outcome, decision) in enumerate(zip(first.outcomes, first.decisions, strict=True)):
        assert outcome.num_tools == len(decision.plan)
        group, index = divmod(row, 3)
        exact_labels = decision.degradations == samples[group].degradations
        assert first.pair_rewards[group, index, index] <= outcome.r_q + 1e-5
        assert not exact_labels or first.pair_rewards[group, index, index].item() == pytest.approx(
            outcome.r_q, rel=1e-5
        )
