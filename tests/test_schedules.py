"""The learning-rate schedules, against values computed by hand and against the formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from opera_env.schedules import (
    cosine_decay,
    linear_decay,
    set_learning_rate,
    warmup_cosine,
    warmup_factor,
    warmup_linear,
)


def test_warmup_rises_linearly_to_one() -> None:
    assert [warmup_factor(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmup_factor(0, 0) == 1.0


def test_decays_start_at_one_and_end_at_the_final_factor() -> None:
    for decay in (cosine_decay, linear_decay):
        assert decay(0, 10) == 1.0 and decay(10, 10) == pytest.approx(0.0)
        assert decay(0, 10, 0.1) == pytest.approx(1.0) and decay(10, 10, 0.1) == pytest.approx(0.1)
        assert decay(5, 10, 0.1) == pytest.approx(0.55)


def test_cosine_to_zero_after_a_warmup() -> None:
    factors = [warmup_cosine(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[4] == pytest.approx(0.5, abs=0.01)
    assert max(factors) == pytest.approx(0.98, abs=0.01)
    assert factors[50] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0)
    assert all(later < earlier for earlier, later in zip(factors[10:], factors[11:], strict=False))
    assert warmup_cosine(0, 10, 0) == 1


@pytest.mark.parametrize("total_steps", [1, 7, 400, 7000])
def test_factors_equal_the_formulas_that_shipped_weights_were_trained_with(total_steps: int) -> None:
    for step in range(total_steps):
        linear = min(1.0, (step + 1) / 25) * (1 - 0.9 * step / total_steps)
        assert warmup_linear(step, total_steps, 25, 0.1) == linear
        angle = math.pi * step / total_steps
        assert warmup_cosine(step, total_steps, 50, 0.1) == min(1.0, (step + 1) / 50) * (
            0.55 + 0.45 * math.cos(angle)
        )
        assert warmup_cosine(step, total_steps, 200) == min(1.0, (step + 1) / 200) * 0.5 * (
            1 + math.cos(angle)
        )


def test_set_learning_rate_reaches_every_parameter_group() -> None:
    first, second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam([{"params": first.parameters()}, {"params": second.parameters()}], lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [param_group["lr"] for param_group in optimizer.param_groups] == [0.25, 0.25]
