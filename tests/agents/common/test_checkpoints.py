"""Budgets add up."""

from __future__ import annotations

from dataclasses import asdict

from opera_agents.common.checkpoints import Budget


def test_budget_adds_what_further_training_cost() -> None:
    budget = Budget(10, 20, 1.5).plus(images_scored=1, tools_run=2, seconds=0.5)
    assert budget == Budget(11, 22, 2.0)
    assert budget.plus() == budget


def test_budget_is_saved_as_plain_numbers() -> None:
    budget = Budget(1, 2, 3.0)
    assert asdict(budget) == {"images_scored": 1, "tools_run": 2, "seconds": 3.0}
    assert Budget(**asdict(budget)) == budget
