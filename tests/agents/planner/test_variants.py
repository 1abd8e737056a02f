"""Plans with one thing changed, and that only the better ones are learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_agents.planner import grpo
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.policy import Draft, Likelihood
from opera_agents.planner.rollout import draw_samples, roll_out
from opera_agents.planner.saved import PolicyCard
from opera_agents.planner.train import learn
from opera_agents.planner.variants import Proposals, Variants, changed_plan, vary
from opera_agents.planner.warm_start import make_optimizer
from opera_env.data import Source
from opera_env.plan import STOP
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox

plans = st.lists(st.integers(1, 5), max_size=6)


@given(plan=plans, tool=st.integers(1, 5), seed=st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_one_thing_is_changed(plan: list[int], tool: int, seed: int) -> None:
    changed, tried = changed_plan(plan, tool, 6, np.random.default_rng(seed))
    assert len(changed) <= 6 and abs(len(changed) - len(plan)) <= 1
    assert (tried == tool and tool in changed) or (tried == STOP and len(changed) < len(plan))
    shorter, longer = sorted((plan, changed), key=len)
    if len(shorter) == len(longer):
        assert sum(a != b for a, b in zip(plan, changed, strict=True)) <= 1
    else:
        assert shorter in [longer[:place] + longer[place + 1 :] for place in range(len(longer))]


def test_variants_belong_to_their_group_and_keep_its_sets() -> None:
    tokens = torch.tensor([[1, 0, 0], [1, 0, 0], [2, 3, 4], [2, 3, 4]])
    labels = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    changed, tried = vary(Draft(labels, tokens), 2, 20, Proposals(4), np.random.default_rng(0))
    assert changed.tokens.shape == (40, 3)
    assert changed.labels[:20].tolist() == [[True, False]] * 20
    assert changed.labels[20:].tolist() == [[False, True]] * 20
    lengths = (changed.tokens != STOP).sum(1)
    assert set(lengths[:20].tolist()) == {0, 1, 2} and set(lengths[20:].tolist()) == {2, 3}
    stops = (changed.tokens == STOP).int()
    assert (stops.diff(dim=1) >= 0).all(), "nothing comes after STOP"
    for tool, plan in zip(tried, changed.tokens.tolist(), strict=True):
        assert tool in plan
    nothing, _ = vary(Draft(labels, tokens), 2, 0, Proposals(4), np.random.default_rng(0))
    assert nothing.tokens.shape == (0, 3)


def test_what_has_been_of_use_is_tried_more_often() -> None:
    proposals = Proposals(4)
    assert proposals.chances.tolist() == [0.25] * 4
    none = Draft(torch.zeros(3, 1), torch.zeros(3, 3))
    likely = Likelihood(*(torch.zeros(3) for _ in range(4)))
    proposals.note(Variants(none, [2, STOP, 4], likely, torch.tensor([3.0, 5.0, 1.0])))
    assert proposals.chances.tolist() == pytest.approx([0.125, 0.5, 0.125, 0.25])
    for _ in range(200):
        proposals.note(Variants(none, [1, 1, 1], likely, torch.tensor([1.0, 0.0, 0.0])))
    assert proposals.chances.argmax() == 0 and proposals.chances.min() >= 0.125


def test_only_what_beats_the_group_counts() -> None:
    paired = torch.tensor([[4.0, 6.0], [4.0, 4.0]])[..., None].expand(2, 2, 2)
    variants = torch.tensor([[7.0, 5.0], [3.0, 4.1]])[..., None].expand(2, 2, 2)
    better = grpo.improvements(paired, variants)
    torch.testing.assert_close(better, torch.tensor([2 / 1.1, 0.0, 0.0, 1.0]), rtol=1e-4, atol=1e-4)


def test_a_better_variant_becomes_more_likely(
    source: Source, toolbox: Toolbox, configure: Callable[..., PlannerConfig]
) -> None:
    torch.manual_seed(0)
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    policy = card.build().eval()
    config = configure(group=2, variants=3, labels=0.0, entropy=0.0, lr=1e-3)
    samples = draw_samples(source, 4, (0, 1))
    batch = roll_out(
        Planner(policy, card, 3),
        PlanScorer(toolbox, "classic"),
        samples,
        config,
        Proposals(len(toolbox)),
        1,
    )
    assert batch.variants is not None and batch.variants.better.shape == (12,)
    better = batch.variants.better > 0
    assert better.any() and not better.all()
    nothing = grpo.Advantages(torch.zeros(8), torch.zeros(8), torch.zeros(4))
    learn(policy, make_optimizer(policy, 1e-3), batch, samples, nothing, None, config)
    with torch.no_grad():
        looked = policy.describe(batch.images).repeat_interleave(3, 0)
        after = policy.likelihood(looked, batch.variants.draft).plan
    gain = (after - batch.variants.before.plan) * batch.variants.better
    assert gain.sum() > 0
    alone = replace(config, variants=0)
    again = roll_out(
        Planner(policy, card, 3), PlanScorer(toolbox, "classic"), samples, alone, Proposals(len(toolbox)), 1
    )
    assert again.variants is None
