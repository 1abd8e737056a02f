"""Statistics of plans: transitions, lengths, order and repeats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opera_env.evaluation.results import Result
from opera_env.report.plan_statistics import START, STOP, PlanStatistics, plan_statistics
from opera_env.types import Plan

DEGRADATIONS = {
    "denoise": frozenset({"noise"}),
    "derain": frozenset({"rain"}),
    "dehaze": frozenset({"haze"}),
    "deblur": frozenset({"defocus_blur"}),
}


def statistics(result: Result, *plans: Plan) -> PlanStatistics:
    return plan_statistics([replace(result, plan=plan) for plan in plans], DEGRADATIONS)


def test_transitions_count_what_follows_what(result: Result) -> None:
    found = statistics(result, ("derain", "denoise"), ("derain",), ())
    assert found.states == (START, "denoise", "derain", STOP)
    count = {
        (row, column): number
        for row, numbers in zip(found.states, found.transitions, strict=True)
        for column, number in zip(found.states, numbers, strict=True)
        if number
    }
    assert count == {
        (START, "derain"): 2,
        (START, STOP): 1,
        ("derain", "denoise"): 1,
        ("derain", STOP): 1,
        ("denoise", STOP): 1,
    }


def test_lengths_are_means_by_number_of_degradations(result: Result) -> None:
    results = [
        replace(result, spec=replace(result.spec, recipe=recipe), plan=plan)
        for recipe, plan in [(("noise",), ("denoise",)), (("noise",), ()), ((), ("derain", "denoise"))]
    ]
    assert plan_statistics(results, DEGRADATIONS).lengths == {0: 2.0, 1: 0.5}


@pytest.mark.parametrize(
    ("name", "plans", "count", "total"),
    [
        ("noise is removed first", [("denoise", "derain"), ("derain", "denoise"), ("denoise",)], 1, 2),
        ("rain is removed before haze", [("derain", "dehaze"), ("dehaze", "derain"), ("derain",)], 1, 2),
        ("deblurring is repeated", [("deblur", "deblur"), ("deblur",), ("derain", "derain")], 1, 2),
        ("denoising is repeated", [("denoise", "derain", "denoise"), ("denoise",)], 1, 2),
        ("a tool is repeated", [("derain", "derain"), ("derain",), ()], 1, 2),
    ],
)
def test_shares_count_the_plans_that_could_have_the_property(
    result: Result, name: str, plans: list[Plan], count: int, total: int
) -> None:
    share = next(share for share in statistics(result, *plans).order if share.name == name)
    assert (share.count, share.total, share.fraction) == (count, total, count / total)


def test_a_property_that_no_plan_could_have_has_no_share(result: Result) -> None:
    assert all(share.fraction is None for share in statistics(result, ()).order)
