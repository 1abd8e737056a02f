"""Plans with one thing changed, and that only the better ones are learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_agents.planner import grpo
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.policy import Draft
from opera_agents.planner.rollout import draw_samples, roll_out
from opera_agents.planner.saved import PolicyCard
from opera_agents.planner.train import learn
from opera_agents.planner.variants import changed_plan, vary
from opera_agents.planner.warm_start import make_optimizer
from opera_env.data import Source
from opera_env.plan import STOP
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox

plans = st.lists(st.integers(1, 5), max_size=6)


@given(plan=plans, seed=st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_one_thing_is_changed(plan: list[int], seed: int) -> None:
    changed = changed_plan(plan, 5, np.random.default_rng(seed))
    assert abs(len(changed) - len(plan)) <= 1
    assert all(1 <= token <= 5 for token in changed)
    shorter, longer = sorted((plan, changed), key=len)
    if len(shorter) == len(longer):
        assert sum(a != b for a, b in zip(plan, changed, strict=True)) <= 1
    else:
        assert shorter in [longer[:place] + longer[place + 1 :] for place in range(len(longer))]


def test_variants_belong_to_their_group_and_keep_its_sets() -> None:
    tokens = torch.tensor([[1, 0, 0], [1, 0, 0], [2, 3, 4], [2, 3, 4]])
    labels = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    changed = vary(Draft(labels, tokens), group=2, count=20, tools=4, rng=np.random.default_rng(0))
    assert changed.tokens.shape == (40, 3)
    assert changed.labels[:20].tolist() == [[True, False]] * 20
    assert changed.labels[20:].tolist() == [[False, True]] * 20
    lengths = (changed.tokens != STOP).sum(1)
    assert set(lengths[:20].tolist()) == {0, 1, 2} and set(lengths[20:].tolist()) == {2, 3}
    stops = (changed.tokens == STOP).int()
    assert (stops.diff(dim=1) >= 0).all(), "nothing comes after STOP"
    assert vary(Draft(labels, tokens), 2, 0, 4, np.random.default_rng(0)).tokens.shape == (0, 3)


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
    batch = roll_out(Planner(policy, card, 3), PlanScorer(toolbox, "classic"), samples, config, seed=1)
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
    again = roll_out(Planner(policy, card, 3), PlanScorer(toolbox, "classic"), samples, alone, seed=1)
    assert again.variants is None
