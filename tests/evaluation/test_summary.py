"""Summaries: unweighted groups, intervals over photographs, normalised scores, paired differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from opera_env.degradations import BENCHMARK_GROUPS
from opera_env.errors import ResultsError
from opera_env.evaluation.best_plans import BestPlan, BestPlans
from opera_env.evaluation.results import Result, spec_digest
from opera_env.evaluation.summary import (
    EACH_TOOL_LABEL,
    GAIN,
    GAP,
    NORMALISED,
    OVERALL,
    R_Q,
    REGRET,
    Summary,
    summarise_results,
)
from opera_env.evaluation.tables import reward_table


@pytest.fixture(scope="module")
def summary(results: list[Result]) -> Summary:
    return summarise_results(results)


def rows_of(results: list[Result], agent: str) -> list[Result]:
    return [result for result in results if result.agent == agent]


def test_a_combination_is_the_mean_of_its_samples(results: list[Result], summary: Summary) -> None:
    entry = summary.entries[1]
    values = [row.metrics["psnr_y"] for row in rows_of(results, "blur") if row.combination == "noise+jpeg"]
    assert entry.means["noise+jpeg"]["psnr_y"].mean == pytest.approx(np.mean(values))
    assert entry.samples == 32


def test_a_group_is_the_unweighted_mean_of_its_combinations(results: list[Result]) -> None:
    """Also if one combination has fewer samples than the others."""
    first = next(number for number, row in enumerate(rows_of(results, "blur")) if row.group == "B")
    kept = [row for agent in ("untouched", "blur") for row in rows_of(results, agent)]
    kept = [row for row in kept if row.spec != rows_of(results, "blur")[first].spec]
    entry = summarise_results(kept).entries[1]
    means = [
        np.mean([row.r_q for row in kept if row.agent == "blur" and row.spec.recipe == recipe])
        for recipe in BENCHMARK_GROUPS["B"]
    ]
    assert entry.means["B"][R_Q].mean == pytest.approx(np.mean(means))
    assert entry.means["B"][R_Q].mean != pytest.approx(
        np.mean([row.r_q for row in kept if row.agent == "blur" and row.group == "B"])
    )


def test_intervals_contain_their_means(summary: Summary) -> None:
    for entry in summary.entries:
        for scope in (OVERALL, "A", "B", "C"):
            interval = entry.means[scope][R_Q]
            assert interval.low < interval.mean < interval.high


def test_differences_are_paired(results: list[Result], summary: Summary) -> None:
    untouched, blur = summary.entries[0], summary.entries[1]
    assert untouched.differences == {}
    gains = [row.gain for row in rows_of(results, "blur")]
    assert blur.differences[R_Q].mean == pytest.approx(np.mean(gains))
    width = blur.differences[R_Q].high - blur.differences[R_Q].low
    assert width < blur.means[OVERALL][R_Q].high - blur.means[OVERALL][R_Q].low


def test_columns_are_those_of_the_protocol(results: list[Result]) -> None:
    titles = {
        name: [column.metric for column in summarise_results(results, name).columns]
        for name in ("opera", "agenticir")
    }
    assert titles == {"opera": ["psnr_y", "ssim_y"], "agenticir": ["psnr_rgb", "ssim_yiq"]}


def test_a_column_that_is_missing_says_why(results: list[Result]) -> None:
    changed = [replace(row, missing={"musiq": "no weights here"}) for row in results]
    assert summarise_results(changed).missing == {"MUSIQ": "no weights here"}


def best_plans(results: list[Result]) -> BestPlans:
    """A table in which the best plan gains 2, except on the first sample, where nothing helps."""
    plans = {}
    for number, row in enumerate(rows_of(results, "untouched")):
        gain = 0.0 if number == 0 else 2.0
        plans[spec_digest(row.spec)] = BestPlan(row.spec, ("x",), row.input_r_q + gain, row.input_r_q)
    first = results[0]
    return BestPlans(first.benchmark, first.signature, first.fingerprint, first.judge, plans)


def test_scores_are_normalised_by_the_best_known_plans(results: list[Result]) -> None:
    summary = summarise_results(results, best=best_plans(results))
    assert summary.normalised == 31
    assert summary.entries[0].means[OVERALL][NORMALISED].mean == 0
    gains = {row.combination: [] for row in results}
    for row in rows_of(results, "blur")[1:]:
        gains[row.combination].append(row.gain / 2)
    expected = np.mean([np.mean(values) for values in gains.values()])
    assert summary.entries[1].means[OVERALL][NORMALISED].mean == pytest.approx(expected)
    regrets = [entry.means[OVERALL][REGRET].mean for entry in summary.entries[:2]]
    assert regrets[0] - regrets[1] == pytest.approx(summary.entries[1].means[OVERALL][GAIN].mean)
    assert 1.9 < regrets[0] < 2
    table = reward_table(summary)
    assert table.rows[0][table.columns.index("regret (95 %)")].startswith(f"{regrets[0]:.2f}")


def test_best_known_plans_of_something_else_are_refused(results: list[Result]) -> None:
    best = best_plans(results)
    with pytest.raises(ResultsError, match="take the table of that benchmark and reward"):
        summarise_results(results, best=replace(best, judge="other"))
    with pytest.raises(ResultsError, match="no best known plan for rain"):
        summarise_results(results, best=replace(best, plans={}))


def test_the_gap_is_what_only_the_reward_sees(results: list[Result]) -> None:
    changed = [replace(row, reward="seen", r_q_seen=row.r_q_seen + 0.5) for row in results]
    entry = summarise_results(changed).entries[1]
    assert entry.means[OVERALL][GAP].mean == pytest.approx(0.5)


def test_agents_of_one_tool_have_a_mean_over_tools(results: list[Result]) -> None:
    names = {"untouched": "single:a", "blur": "single:b"}
    changed = [replace(row, agent=names[row.agent]) for row in results if row.agent in names]
    entries = summarise_results(changed[1:]).entries  # a tool may have results on fewer samples
    assert [entry.agent for entry in entries] == ["single:a", "single:b", EACH_TOOL_LABEL]
    means = [entry.means[OVERALL]["psnr_y"].mean for entry in entries]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2)
