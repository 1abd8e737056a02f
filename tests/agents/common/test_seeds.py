"""Generators of different stages, steps and streams are different, and equal keys give equal draws."""

from __future__ import annotations

from itertools import product

import numpy as np

from opera_agents.common.seeds import SeedStage, make_rng, make_seed, rollout_seed


def test_equal_keys_draw_the_same() -> None:
    first = make_rng(3, SeedStage.COTRAINING, 4).random(5)
    assert (first == make_rng(3, SeedStage.COTRAINING, 4).random(5)).all()


def test_no_two_keys_share_a_generator() -> None:
    keys = list(product((0, 1, 2), SeedStage, (0, 1, 2, 3), (0, 1)))
    assert len({make_rng(*key).integers(2**63) for key in keys}) == len(keys)
    assert len({make_seed(*key) for key in keys}) == len(keys)


def test_values_of_stages_are_fixed() -> None:
    """Shipped planners, tools and language models were trained with the first five of them."""
    assert [(stage.name, stage.value) for stage in SeedStage][:5] == [
        ("PLANNER_WARM_START", 0),
        ("PLANNER_GRPO", 1),
        ("COTRAINING", 2),
        ("VLM_WARM_START", 3),
        ("VLM_GRPO", 4),
    ]
    assert [stage.value for stage in SeedStage] == list(range(len(SeedStage)))


def test_draws_equal_those_that_shipped_weights_were_trained_with() -> None:
    """Keys then had three parts, and a fourth only for a second stream: NumPy pads keys with zeros."""
    draws = make_rng(5, SeedStage.PLANNER_GRPO, 7).random(3)
    assert (draws == np.random.default_rng((5, 1, 7)).random(3)).all()
    draws = make_rng(5, SeedStage.PLANNER_WARM_START, 7, stream=1).random(3)
    assert (draws == np.random.default_rng((5, 0, 7, 1)).random(3)).all()


def test_rollout_seeds_differ_between_updates_and_seeds() -> None:
    assert rollout_seed(2, 3) == 2_000_009
    assert len({rollout_seed(seed, update) for seed in range(3) for update in range(50)}) == 150
