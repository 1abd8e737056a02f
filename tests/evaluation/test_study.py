"""Planning factors and their effects: by hand, for any scores, and on real images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from opera_env.cluster import Cluster
from opera_env.data import Source, clean_folder
from opera_env.errors import SampleError, ToolboxError
from opera_env.evaluation.consensus import consensus_plans
from opera_env.evaluation.planning_factors import CONSTANT_PLAN, PLANNING_FACTORS, matched_orders
from opera_env.evaluation.study import STUDY_METRICS, Effect, StudyResult, matched_tools, run_study
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, SampleSpec

ORDER = "matched tools, best order less worst"
RANDOM_ORDER = "matched tools, best order less a random one"
OMISSION = "leaving matched tools out"
REPETITION = "repeating matched tools"
UNMATCHED = "adding unmatched tools"
ANY_PLAN = "any plan less the best matched order"

NAMES = ("a", "b", "c", "d")


def plan(word: str) -> Plan:
    return tuple(word)


# ---- factors, on scores made by hand ----------------------------------------------------------

BY_HAND = {
    plan(word): score
    for word, score in {
        "": 1,
        **{"a": 2, "b": 5, "c": 7},
        **{"aa": 2.5, "ab": 3, "ac": 0, "ba": 4, "bb": 6, "bc": 9, "ca": 1, "cb": 8, "cc": 10},
    }.items()
}
"""All plans of a, b and c up to two steps."""


@pytest.mark.parametrize(
    ("factor", "matched", "expected"),
    [
        (ORDER, "ab", 4 - 3),
        (RANDOM_ORDER, "ab", 4 - 3.5),
        (OMISSION, "ab", 5 - 4),  # b alone
        (REPETITION, "ab", 6 - 5),  # bb against b
        (UNMATCHED, "ab", 9 - 5),  # bc against b
        (ANY_PLAN, "ab", 10 - 4),  # cc against ba
        (ORDER, "a", 0),
        (RANDOM_ORDER, "a", 0),
        (OMISSION, "a", 0),  # the empty plan is worse
        (REPETITION, "a", 2.5 - 2),
        (UNMATCHED, "a", 9 - 2),
        (ANY_PLAN, "a", 10 - 2),
        (ORDER, "", 0),
        (OMISSION, "", 0),
        (REPETITION, "", 0),
        (UNMATCHED, "", 9 - 1),
        (ANY_PLAN, "", 10 - 1),
        (UNMATCHED, "bc", 0),  # bc itself
        (REPETITION, "bc", 10 - 9),
        (ANY_PLAN, "bc", 10 - 9),
    ],
)
def test_factors_by_hand(factor: str, matched: str, expected: float) -> None:
    assert PLANNING_FACTORS[factor](BY_HAND, plan(matched)) == pytest.approx(expected, abs=1e-12)


def test_six_orders_of_three_tools_by_hand() -> None:
    scores = dict.fromkeys(all_plans("abc", 3), -9.0)
    scores |= {plan(word): float(score) for score, word in enumerate(("abc", "bac", "cab", "acb", "bca"))}
    scores[plan("cba")] = 11.0
    assert PLANNING_FACTORS[ORDER](scores, plan("abc")) == 11
    assert PLANNING_FACTORS[RANDOM_ORDER](scores, plan("abc")) == pytest.approx(
        11 - (0 + 1 + 2 + 3 + 4 + 11) / 6
    )


def test_every_factor_has_a_case_by_hand() -> None:
    assert set(PLANNING_FACTORS) == {ORDER, RANDOM_ORDER, OMISSION, REPETITION, UNMATCHED, ANY_PLAN}
    assert CONSTANT_PLAN not in PLANNING_FACTORS


def test_orders_of_matched_tools() -> None:
    assert sorted("".join(order) for order in matched_orders("abc")) == [
        *("abc", "acb", "bac", "bca", "cab", "cba"),
    ]
    assert matched_orders("") == [()]


# ---- factors, on any scores -------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[Plan, float], Plan]:
    """Scores of all plans of some tools, and which of the tools are matched."""
    names = NAMES[: draw(st.integers(1, 4))]
    longest = draw(st.integers(0, 3))
    matched = draw(st.sets(st.sampled_from(names), max_size=longest))
    plans = all_plans(names, longest)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from((2, 5, 1000)))  # few levels make ties
    scores = rng.integers(0, levels, len(plans)) * 0.1
    return dict(zip(plans, scores.tolist(), strict=True)), tuple(sorted(matched))


@given(tables())
@example((dict.fromkeys(all_plans("abc", 3), 0.1), plan("abc")))  # a mean that rounds up
def test_no_factor_has_a_negative_effect(table: tuple[dict[Plan, float], Plan]) -> None:
    for name, factor in PLANNING_FACTORS.items():
        assert factor(*table) >= -1e-9, name


@given(tables())
def test_factors_with_more_plans_have_larger_effects(table: tuple[dict[Plan, float], Plan]) -> None:
    """The plans of a factor are among all plans, and its baseline is no lower."""
    effects = {name: factor(*table) for name, factor in PLANNING_FACTORS.items()}
    assert effects[RANDOM_ORDER] <= effects[ORDER] + 1e-9
    assert effects[OMISSION] + effects[REPETITION] <= effects[ANY_PLAN] + 1e-9
    assert effects[OMISSION] + effects[UNMATCHED] <= effects[ANY_PLAN] + 1e-9


@given(tables(), st.floats(-50, 50))
def test_only_differences_of_scores_count(table: tuple[dict[Plan, float], Plan], constant: float) -> None:
    scores, matched = table
    moved = {plan: 3 * score + constant for plan, score in scores.items()}
    for factor in PLANNING_FACTORS.values():
        assert factor(moved, matched) == pytest.approx(3 * factor(scores, matched), abs=1e-6)


@given(tables())
def test_effects_of_matched_tools_do_not_depend_on_unmatched_ones(
    table: tuple[dict[Plan, float], Plan],
) -> None:
    scores, matched = table
    assume(len(matched) < 4)
    moved = {plan: score if set(plan) <= set(matched) else -100.0 for plan, score in scores.items()}
    for name in (ORDER, RANDOM_ORDER, OMISSION, REPETITION):
        assert PLANNING_FACTORS[name](moved, matched) == PLANNING_FACTORS[name](scores, matched)
    assert PLANNING_FACTORS[UNMATCHED](moved, matched) == 0


# ---- studies -----------------------------------------------------------------------------------

NOISE, BOTH = ("noise",), ("noise", "jpeg")


def brighten(image: Tensor) -> Tensor:
    return (1.3 * image + 0.1).clamp(0, 1)


def keep(image: Tensor) -> Tensor:
    return image


def invert(image: Tensor) -> Tensor:
    return 0.9 * (1 - image)  # twice is not what it was, so no two plans are equal but for rounding


def tiny() -> Toolbox:
    """Two tools that take part, and two that do not."""
    return (
        Toolbox()
        .add("tiny.darken", lambda image: 0.8 * image)
        .add("tiny.brighten", brighten, degradations=["jpeg"])
        .add("tiny.invert", invert, degradations=["noise"])
        .add("tiny.keep", keep, degradations=["noise", "haze"])
    )


def make(
    source: Source, recipe: tuple[str, ...], photographs: Sequence[int] = (0, 1), seed: int = 7
) -> list[Sample]:
    return [
        source.make(SampleSpec(source.name, index, recipe, seed=seed, crop=(0, 4, 64, 64)))
        for index in photographs
    ]


@pytest.fixture(scope="module")
def pictures(source: Source) -> list[Sample]:
    """Two recipes on two photographs each."""
    return [*make(source, NOISE), *make(source, BOTH)]


@pytest.fixture(scope="module")
def study_result(pictures: list[Sample]) -> StudyResult:
    return run_study(tiny(), pictures, max_length=2)


needs_lpips = pytest.mark.needs_weights("lpips")


def effect_of(result: StudyResult, factor: str, metric: str = "r_q") -> Effect:
    rows = [row for row in result.effects if (row.factor, row.metric) == (factor, metric)]
    assert len(rows) == 1
    return rows[0]


def scores(
    toolbox: Toolbox, sample: Sample, plans: Sequence[Plan], metric: str = "r_q"
) -> Mapping[Plan, float]:
    outcomes = PlanScorer(toolbox, "lite").score([sample] * len(plans), plans)
    values = [outcome.r_q if metric == "r_q" else outcome.metrics[metric] for outcome in outcomes]
    return dict(zip(plans, values, strict=True))


def test_the_first_tool_for_each_degradation_takes_part(pictures: list[Sample]) -> None:
    assert set(matched_tools(tiny(), pictures).values()) == {"tiny.brighten", "tiny.invert"}
    assert set(matched_tools(tiny(), pictures[:2]).values()) == {"tiny.invert"}


@needs_lpips
def test_all_plans_of_the_tools_on_all_samples(study_result: StudyResult, pictures: list[Sample]) -> None:
    assert study_result.tools == ("tiny.brighten", "tiny.invert")
    assert (study_result.max_length, study_result.samples) == (2, len(pictures))
    assert study_result.plans == 1 + 2 + 2**2
    assert run_study(tiny(), pictures[:2], max_length=3).plans == 1 + 1 + 1 + 1


@needs_lpips
def test_each_factor_has_one_plausible_effect_by_each_metric(study_result: StudyResult) -> None:
    rows = [(row.factor, row.metric) for row in study_result.effects]
    factors = [*PLANNING_FACTORS, CONSTANT_PLAN]
    assert sorted(rows) == sorted((name, m) for name in factors for m in STUDY_METRICS)
    for row in study_result.effects:
        assert row.mean.low <= row.mean.mean <= row.mean.high
        assert 0 <= row.fraction <= 1
        if row.factor != CONSTANT_PLAN:
            assert row.mean.mean >= 0
            assert row.median >= 0
            assert (row.fraction > 0) == (row.mean.mean > 1e-9)


@needs_lpips
@pytest.mark.parametrize("metric", ["r_q", "psnr_y", "ssim_y"])
def test_effects_are_those_of_the_scores(
    study_result: StudyResult, pictures: list[Sample], metric: str
) -> None:
    plans = [(), ("tiny.brighten",), ("tiny.invert",)]
    plans += [(a, b) for a in study_result.tools for b in study_result.tools]
    any_plan, order = [], []
    for sample in pictures:
        known_scores = scores(tiny(), sample, plans, metric)
        first, second = (
            [("tiny.invert",)],
            [("tiny.brighten", "tiny.invert"), ("tiny.invert", "tiny.brighten")],
        )
        orders = [known_scores[way] for way in (first if sample.degradations == {"noise"} else second)]
        any_plan.append(max(known_scores.values()) - max(orders))
        order.append(max(orders) - min(orders))
    for name, values in ((ANY_PLAN, any_plan), (ORDER, order)):
        row = effect_of(study_result, name, metric)
        assert row.mean.mean == pytest.approx(np.mean(values), abs=1e-3)
        assert row.median == pytest.approx(np.median(values), abs=1e-3)
        assert row.fraction == np.mean(np.array(values) > 1e-9)
    assert effect_of(study_result, ORDER, metric).fraction == 0.5  # with one tool there is no order


@needs_lpips
def test_consensus_plans(study_result: StudyResult) -> None:
    consensus = study_result.consensus
    assert 0 < consensus.plans <= study_result.plans
    assert 0 <= consensus.plans_above_matched < study_result.plans
    assert 0 <= consensus.repeats <= 1
    assert 0 <= consensus.unmatched <= 1
    assert consensus.baseline_repeats == pytest.approx(2 / 7)  # two plans of seven use a tool twice
    # Brightening is unmatched where there is no JPEG: in four plans of seven, on half of the samples.
    assert consensus.baseline_unmatched == pytest.approx((4 / 7 + 0) / 2)
    for rank in (consensus.best_rank_matched, consensus.best_rank_unmatched):
        assert rank is not None and 1 <= rank <= study_result.plans


def test_ranks_of_plans_by_hand() -> None:
    """Four plans of one matched tool, a, and an unmatched one, b; all metrics agree but one."""
    plans = [plan(word) for word in ("", "a", "aa", "b")]
    values = np.array([1.0, 3.0, 4.0, 2.0])
    columns: dict[str, NDArray[np.float64]] = dict.fromkeys(
        ("r_q", "psnr_y", "ssim_y", "lpips", "niqe32", "piqe"), values
    )
    columns["piqe"] = -values
    found = consensus_plans(plans, [columns], [plan("a")])
    assert (found.plans, found.repeats, found.unmatched) == (1, 1, 0)  # aa alone
    assert found.rank_repeated == pytest.approx((4 * 1 + 4) / 5)
    assert found.rank_deduplicated == pytest.approx((4 * 2 + 3) / 5)  # a
    assert found.best_rank_matched == pytest.approx((4 * 1 + 4) / 5)
    assert found.best_rank_unmatched == pytest.approx((4 * 3 + 2) / 5)
    assert found.unmatched_better == 0
    assert consensus_plans(plans, [columns], [plan("b")]).unmatched_better == 1
    first = {name: column[:1] for name, column in columns.items()}
    assert consensus_plans(plans[:1], [first], [()]).best_rank_unmatched is None


@needs_lpips
def test_the_result_is_json(study_result: StudyResult) -> None:
    read = json.loads(json.dumps(study_result.to_json(), allow_nan=False))
    assert read["tools"] == list(study_result.tools)
    assert [row["mean"]["mean"] for row in read["effects"]] == [
        row.mean.mean for row in study_result.effects
    ]
    assert read["consensus"]["plans"] == study_result.consensus.plans


@needs_lpips
def test_the_same_samples_give_the_same_figures(study_result: StudyResult, pictures: list[Sample]) -> None:
    again = run_study(tiny(), pictures, max_length=2)
    assert [(row.factor, row.metric) for row in again.effects] == [
        (row.factor, row.metric) for row in study_result.effects
    ]
    for effect, other_effect in zip(again.effects, study_result.effects, strict=True):
        assert asdict(effect.mean) == pytest.approx(asdict(other_effect.mean), abs=1e-5)
        assert (effect.median, effect.fraction) == pytest.approx(
            (other_effect.median, other_effect.fraction), abs=1e-5
        )
    assert asdict(again.consensus) == pytest.approx(asdict(study_result.consensus))


@needs_lpips
@pytest.mark.slow
@needs_lpips
def test_a_study_on_a_cluster_is_that_of_one_process(
    study_result: StudyResult, pictures: list[Sample]
) -> None:
    assert run_study(tiny(), pictures, max_length=2, cluster=Cluster(workers=2)) == study_result


def test_progress_counts_samples(pictures: list[Sample]) -> None:
    calls: list[tuple[int, int]] = []
    run_study(tiny(), pictures[:2], 1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


@needs_lpips
@pytest.mark.parametrize("metric", ["r_q", "psnr_y", "ssim_y"])
def test_a_plan_that_is_best_everywhere_gains_its_lead(source: Source, metric: str) -> None:
    """The matched tool ruins the image, so doing nothing is best; only that tool takes part."""
    toolbox = Toolbox().add("tiny.invert", invert, degradations=["noise"])
    samples = make(source, NOISE, (0, 1, 2))
    known_scores = [scores(toolbox, sample, [(), ("tiny.invert",)], metric) for sample in samples]
    leads = [row[()] - row["tiny.invert",] for row in known_scores]
    assert min(leads) > 0, "otherwise this test shows nothing"
    result = run_study(toolbox, samples, max_length=1)
    for name in (CONSTANT_PLAN, ANY_PLAN, OMISSION):
        row = effect_of(result, name, metric)
        assert row.mean.mean == pytest.approx(np.mean(leads), abs=1e-3), name
        assert row.median == pytest.approx(np.median(leads), abs=1e-3)
        assert row.fraction == 1


@needs_lpips
def test_a_plan_that_is_best_on_one_photograph_gains_nothing_as_a_constant(source: Source) -> None:
    """A tool that returns the reference of one image and ruins every other.

    For the known image the plan is chosen on the other, where doing nothing is best: it loses what
    the tool gains there. For the other it is chosen on the known one: the tool, as in the matched order.
    """
    first, second = make(source, BOTH)
    reference = first.reference
    assert reference is not None

    def by_heart(images: Tensor) -> Tensor:
        return torch.stack(
            [reference if image.allclose(first.lq, atol=1e-6) else 1 - image for image in images]
        )

    toolbox = Toolbox().add("by.heart", by_heart, degradations=["noise"])
    toolbox.add("tiny.keep", keep, degradations=["jpeg"])
    plans = [(), ("by.heart",)]
    gained = scores(toolbox, first, plans, "psnr_y")
    ruined = scores(toolbox, second, plans, "psnr_y")
    lost = gained["by.heart",] - gained[()]
    assert lost > 0 and ruined[()] > ruined["by.heart",]

    result = run_study(toolbox, [first, second], max_length=2)
    constant = effect_of(result, CONSTANT_PLAN, "psnr_y")
    assert constant.mean.mean == pytest.approx(-lost / 2, abs=1e-3)
    assert constant.fraction == 0
    anything = effect_of(result, ANY_PLAN, "psnr_y")
    assert anything.mean.mean == pytest.approx((ruined[()] - ruined["by.heart",]) / 2, abs=1e-3)
    assert anything.fraction == 0.5


@needs_lpips
def test_a_constant_plan_is_chosen_within_a_recipe(source: Source) -> None:
    """Adding samples of another recipe changes no constant plan of the first."""
    toolbox = Toolbox().add("tiny.invert", invert, degradations=["noise", "jpeg"])
    alone = [run_study(toolbox, make(source, recipe), 1) for recipe in (NOISE, ("jpeg",))]
    study = run_study(toolbox, [*make(source, NOISE), *make(source, ("jpeg",))], 1)
    expected = np.mean([effect_of(result, CONSTANT_PLAN).mean.mean for result in alone])
    assert effect_of(study, CONSTANT_PLAN).mean.mean == pytest.approx(expected, abs=1e-3)


@needs_lpips
def test_a_tool_is_matched_only_where_it_is_the_first_for_a_degradation(source: Source) -> None:
    """The tool that takes part for JPEG can denoise too, but another one does that."""
    toolbox = Toolbox().add("tiny.invert", invert, degradations=["noise"])
    toolbox.add("tiny.brighten", brighten, degradations=["jpeg", "noise"])
    samples = [*make(source, NOISE), *make(source, ("jpeg",))]
    result = run_study(toolbox, samples, max_length=1)
    assert effect_of(result, ORDER).fraction == 0, "one matched tool an image has no order"
    assert result.consensus.baseline_unmatched == pytest.approx(1 / 3)


@needs_lpips
def test_one_tool_for_two_degradations_is_used_once(source: Source) -> None:
    toolbox = Toolbox().add("tiny.keep", keep, degradations=["jpeg", "noise"])
    result = run_study(toolbox, make(source, BOTH, (0, 1, 2)), max_length=30)
    assert result.tools == ("tiny.keep",)
    assert result.plans == 31
    for row in result.effects:
        assert row.mean.mean == pytest.approx(0, abs=1e-5)
        assert row.fraction == 0, "equal images have equal scores up to rounding"


@needs_lpips
def test_there_may_be_no_consensus_plan(source: Source, make_photograph: Callable[..., object]) -> None:
    """Doing nothing is closest to the reference; another photograph looks best without one."""
    other_photograph = torch.from_numpy(np.array(make_photograph(64, 64, 99))).permute(2, 0, 1) / 255
    toolbox = Toolbox().add(
        "tiny.replace",
        lambda images: other_photograph.expand_as(images).contiguous(),
        degradations=["noise"],
    )
    samples = make(source, NOISE, seed=0)
    for metric, higher in (("psnr_y", -1), ("ssim_y", -1), ("lpips", 1), ("niqe32", -1), ("piqe", -1)):
        for sample in samples:
            known_scores = scores(toolbox, sample, [(), ("tiny.replace",)], metric)
            change = known_scores["tiny.replace",] - known_scores[()]
            assert change * higher > 0, f"otherwise this test shows nothing: {metric}"
    consensus = run_study(toolbox, samples, max_length=1).consensus
    assert consensus.plans == 0
    assert consensus.baseline_repeats == 0


# ---- what cannot be studied --------------------------------------------------------------------


def test_plans_must_be_as_long_as_recipes(pictures: list[Sample]) -> None:
    with pytest.raises(SampleError, match=r"max_length of at least 2.*2 degradations.*found 1"):
        run_study(tiny(), pictures, max_length=1)


@needs_lpips
def test_each_recipe_needs_two_photographs(source: Source, pictures: list[Sample]) -> None:
    with pytest.raises(SampleError, match=r"two photographs; noise \+ jpeg is on one"):
        run_study(tiny(), pictures[:3], max_length=2)
    twice = make(source, BOTH, (1, 1))  # two samples of one photograph
    with pytest.raises(SampleError, match="two photographs"):
        run_study(tiny(), [*pictures[:2], *twice], max_length=2)


@needs_lpips
def test_photographs_of_two_sources_are_two(photos: Path, tmp_path: Path) -> None:
    """The first of one folder and the first of another."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(photos / "2.png", elsewhere)
    samples = [*make(clean_folder(photos, 64), NOISE, [0]), *make(clean_folder(elsewhere, 64), NOISE, [0])]
    assert run_study(tiny(), samples, max_length=1).samples == 2


def test_each_degradation_needs_a_tool(source: Source) -> None:
    for recipe in (("rain",), ("noise", "rain")):
        with pytest.raises(ToolboxError, match="rain"):
            run_study(tiny(), make(source, recipe), max_length=2)


def test_no_samples(source: Source) -> None:
    with pytest.raises(SampleError):
        run_study(tiny(), [], max_length=2)
