"""Rewards computed by hand: terms, presets, constants of the released code, and combined rewards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_env.errors import PlanParseError, RewardError, UnknownPresetError
from opera_env.metrics import METRICS, FunctionMetric, build_metric
from opera_env.reward import (
    REWARD_PRESETS,
    Reward,
    RewardTerm,
    combined_reward,
    env_reward,
    f1_score,
    get_reward,
)
from opera_env.types import Decision, Outcome

BOUNDED = ("lite", "classic", "label_free", "no_reference")
FULL_REFERENCE = {"psnr_y", "ssim_y", "lpips", "gmsd"}
DEGRADATIONS = ("noise", "rain", "haze", "jpeg")

values = st.floats(-1e6, 1e6)
sets = st.frozensets(st.sampled_from(DEGRADATIONS))


def _metrics(reward: str, numbers: list[float]) -> dict[str, float]:
    return {term.name: number for term, number in zip(REWARD_PRESETS[reward].terms, numbers, strict=False)}


# Terms


@pytest.mark.parametrize(
    ("low", "high", "value", "expected"),
    [
        (10, 40, 25, 1.5),
        (10, 40, 10, 0),
        (10, 40, 40, 3),
        (10, 40, 9, 0),
        (10, 40, 80, 3),
        (0.7, 0, 0.35, 1.5),
        (0.7, 0, 0.9, 0),
        (0.7, 0, -1, 3),
    ],
)
def test_a_term_is_scaled_and_clipped(low: float, high: float, value: float, expected: float) -> None:
    assert RewardTerm("x", low, high, 3).contribution(value) == pytest.approx(expected)


def test_a_term_without_clipping_exceeds_its_bounds() -> None:
    assert RewardTerm("x", 0, 9, 1, clip=False).contribution(27) == pytest.approx(3)
    assert RewardTerm("x", 0, 9, 1, clip=False).contribution(-9) == pytest.approx(-1)
    assert RewardTerm("x", 0, -0.3, 2, clip=False).contribution(0.6) == pytest.approx(-4)


def test_a_term_with_an_own_metric() -> None:
    metric = FunctionMetric("mine", lambda images: images.mean((1, 2, 3)), worst=0.0)
    reward = Reward("own", (RewardTerm(metric, 0, 2, 10), RewardTerm("piqe", 100, 0, 1)))
    assert reward.contributions({"mine": 1.0, "piqe": 50.0}, ()) == {"mine": 5.0, "piqe": 0.5}


@pytest.mark.parametrize("terms", [(), ("piqe",)])
def test_a_reward_without_terms_is_refused(terms: Any) -> None:
    with pytest.raises(RewardError, match="'own': expected at least one RewardTerm"):
        Reward("own", terms)


def test_a_missing_metric_is_an_error() -> None:
    """The released code ignored a missing key, and every plan scored 0."""
    for reward in REWARD_PRESETS.values():
        complete = {term.name: 1.0 for term in reward.terms}
        for name in complete:
            with pytest.raises(KeyError, match=name):
                reward.contributions({key: value for key, value in complete.items() if key != name}, ("a",))


# Presets


@pytest.mark.parametrize("name", BOUNDED)
@given(numbers=st.lists(values, min_size=5, max_size=5), length=st.integers(0, 12))
def test_bounded_presets_lie_in_0_to_10(name: str, numbers: list[float], length: int) -> None:
    terms = REWARD_PRESETS[name].contributions(_metrics(name, numbers), ("a",) * length)
    assert 0 <= sum(terms.values()) <= 10 + 1e-9


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_presets_reach_0_and_10(name: str) -> None:
    reward = REWARD_PRESETS[name]
    best = reward.contributions({term.name: term.high for term in reward.terms}, ())
    worst = reward.contributions({term.name: term.low for term in reward.terms}, ())
    assert sum(best.values()) == pytest.approx(10)
    assert sum(worst.values()) == 0
    failed = {term.name: build_metric(term.name).worst for term in reward.terms if term.name != "lpips"}
    assert sum(reward.contributions({"lpips": 1.0, **failed}, ()).values()) == 0, (
        "a failed metric contributes 0"
    )


@pytest.mark.parametrize("name", REWARD_PRESETS)
def test_better_metric_values_never_lower_the_reward(name: str) -> None:
    reward = REWARD_PRESETS[name]
    for term in reward.terms:
        better = (
            METRICS[term.name]().higher_is_better if term.name in ("psnr_y", "ssim_y", "piqe") else None
        )
        if better is not None:
            assert (term.high > term.low) == better
        steps = [term.low + (term.high - term.low) * share / 10 for share in range(11)]
        earned = [term.contribution(value) for value in steps]
        assert earned == sorted(earned)
        assert earned[-1] > earned[0]


def test_full_reference_terms_have_80_percent_of_the_weight_of_lite() -> None:
    weights = {term.name: term.weight for term in REWARD_PRESETS["lite"].terms}
    assert set(weights) == {"psnr_y", "ssim_y", "lpips", "niqe32", "piqe"}
    assert sum(weights.values()) == 10
    assert sum(weight for name, weight in weights.items() if name in FULL_REFERENCE) == 8


def test_the_metrics_of_classic_and_label_free() -> None:
    assert {term.name for term in REWARD_PRESETS["classic"].terms} == {"psnr_y", "ssim_y", "gmsd"}
    for name in ("label_free", "no_reference"):
        assert not any(build_metric(term.name).needs_reference for term in REWARD_PRESETS[name].terms)
    for name in ("classic", "label_free", "no_reference"):
        for term in REWARD_PRESETS[name].terms:
            build_metric(term.name)  # nothing to download


RELEASE = {"psnr_y": 27.0, "ssim_y": 0.9, "lpips": 0.15, "clipiqa": 0.5, "musiq": 60.0}


@pytest.mark.parametrize("name", ["paper", "release"])
def test_the_constants_of_the_released_code(name: str) -> None:
    """R_q = PSNR/9 + SSIM/0.3 + 2 (-LPIPS/0.3 + CLIPIQA/0.1 + MUSIQ/7.5)."""
    terms = REWARD_PRESETS[name].contributions(RELEASE, ("a",))
    assert terms == pytest.approx(
        {"psnr_y": 3.0, "ssim_y": 3.0, "lpips": -1.0, "clipiqa": 10.0, "musiq": 16.0}, abs=1e-12
    )
    assert sum(terms.values()) == pytest.approx(31.0)
    # Nothing is clipped at either end.
    extreme = REWARD_PRESETS[name].contributions({**RELEASE, "psnr_y": 80.0, "lpips": 1.2}, ("a",))
    assert extreme["psnr_y"] == pytest.approx(80 / 9)
    assert extreme["lpips"] == pytest.approx(-8)


@pytest.mark.parametrize(("length", "counts"), [(0, False), (1, True), (6, True), (7, False), (20, False)])
def test_release_scores_0_for_empty_and_long_plans(length: int, counts: bool) -> None:
    terms = REWARD_PRESETS["release"].contributions(RELEASE, ("a",) * length)
    assert set(terms) == set(RELEASE)
    assert sum(terms.values()) == pytest.approx(31.0 if counts else 0.0)
    if not counts:
        assert set(terms.values()) == {0.0}
    assert sum(REWARD_PRESETS["paper"].contributions(RELEASE, ("a",) * length).values()) == pytest.approx(
        31.0
    )


def test_get_reward() -> None:
    assert get_reward("lite") is REWARD_PRESETS["lite"]
    own_reward = Reward("own", (RewardTerm("piqe", 100, 0, 1),))
    assert get_reward(own_reward) is own_reward
    with pytest.raises(UnknownPresetError, match=r"reward 'lit'.*lite.*classic"):
        get_reward("lit")
    assert set(REWARD_PRESETS) == {"lite", "paper", "release", "classic", "label_free", "no_reference"}
    assert all(reward.name == name for name, reward in REWARD_PRESETS.items())


# F1


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ((), (), 1.0),
        (("rain",), (), 0.0),
        ((), ("rain",), 0.0),
        (("rain",), ("rain",), 1.0),
        (("rain", "haze"), ("rain",), 2 / 3),
        (("rain",), ("rain", "haze", "noise"), 0.5),
        (("rain", "jpeg"), ("rain", "haze"), 0.5),
        (("jpeg",), ("rain", "haze"), 0.0),
    ],
)
def test_f1_by_hand(predicted: tuple[str, ...], true: tuple[str, ...], expected: float) -> None:
    assert f1_score(frozenset(predicted), frozenset(true)) == pytest.approx(expected)


@given(predicted=sets, true=sets)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(
    predicted: frozenset[str], true: frozenset[str]
) -> None:
    actual = f1_score(predicted, true)
    assert actual == f1_score(true, predicted)
    assert 0 <= actual <= 1
    assert (actual == 1) == (predicted == true)
    if predicted & true:
        precision, recall = len(predicted & true) / len(predicted), len(predicted & true) / len(true)
        assert actual == pytest.approx(2 * precision * recall / (precision + recall))


# Combined rewards


OUTCOME = Outcome(restored=None, r_q=6.0, num_tools=2)


def test_env_reward_is_r_q_less_the_cost_of_each_tool() -> None:
    assert env_reward(OUTCOME, 0.0) == 6.0
    assert env_reward(OUTCOME, 0.25) == 5.5
    assert env_reward(replace(OUTCOME, num_tools=0), 0.25) == 6.0


RAIN, RAIN_HAZE = frozenset({"rain"}), frozenset({"rain", "haze"})


def _predict(*degradations: str, error: PlanParseError | None = None) -> Decision:
    return Decision(("a", "b"), frozenset(degradations), error=error)


def test_the_product_computed_by_hand() -> None:
    assert combined_reward(OUTCOME, _predict("rain", "haze"), RAIN_HAZE) == pytest.approx(6.0)
    assert combined_reward(OUTCOME, _predict("rain", "haze"), RAIN) == pytest.approx(6.0 * 2 / 3)
    assert combined_reward(OUTCOME, _predict("rain", "haze"), RAIN, consistency=0.5) == pytest.approx(2.0)
    assert combined_reward(OUTCOME, _predict("rain"), RAIN, consistency=0.0) == 0
    assert combined_reward(OUTCOME, _predict("jpeg"), RAIN) == 0
    assert combined_reward(OUTCOME, _predict(), frozenset()) == pytest.approx(6.0)
    assert combined_reward(OUTCOME, _predict("rain"), frozenset()) == 0


def test_the_gated_form_computed_by_hand() -> None:
    """R_f (R_d + [R_d > 0.8] R_q) R_c with R_d the mean of precision and recall."""

    def gated(decision: Decision, labels: frozenset[str] | None, consistency: float | None = None) -> float:
        return combined_reward(OUTCOME, decision, labels, consistency, reward_form="gated")

    assert gated(_predict("rain", "haze"), RAIN_HAZE) == pytest.approx(1 + 6)
    # Precision 1/2 and recall 1: R_d = 0.75 is not above 0.8, so R_q does not count.
    assert gated(_predict("rain", "haze"), RAIN) == pytest.approx(0.75)
    assert gated(_predict("rain", "haze"), RAIN, 0.5) == pytest.approx(0.375)
    # Precision 2/3 and recall 1: R_d = 0.8333 is above 0.8.
    assert gated(_predict("rain", "haze", "noise"), RAIN_HAZE) == pytest.approx(5 / 6 + 6)
    assert gated(_predict("rain", "haze", "noise"), RAIN_HAZE, 0.5) == pytest.approx((5 / 6 + 6) / 2)
    assert gated(_predict("jpeg"), RAIN) == 0
    assert gated(_predict(), RAIN) == 0
    assert gated(_predict("rain"), frozenset()) == 0
    assert gated(_predict(), frozenset()) == pytest.approx(7)
    assert gated(Decision(("a",)), RAIN) == pytest.approx(7), "a decision without a prediction has R_d = 1"


def test_exactly_0_8_does_not_pass_the_gate() -> None:
    """Precision 1 and recall 3/5, or 4/5 for both."""
    five = frozenset("abcde")
    predicted = frozenset({"a", "b", "c", "d", "x"})
    outcome = replace(OUTCOME, r_q=100.0)
    assert combined_reward(outcome, Decision((), predicted), five, reward_form="gated") == pytest.approx(
        0.8
    )


@pytest.mark.parametrize("form", ["product", "gated"])
def test_a_parse_error_has_reward_0(form: str) -> None:
    decision = _predict("rain", error=PlanParseError("no answer"))
    assert combined_reward(OUTCOME, decision, RAIN, 1.0, form) == 0  # type: ignore[arg-type]
    # A decision for the empty plan is scored like any other.
    assert combined_reward(OUTCOME, Decision((), RAIN), RAIN, 1.0, form) > 0  # type: ignore[arg-type]


def test_missing_factors_count_as_1() -> None:
    assert combined_reward(OUTCOME, Decision(("a", "b"))) == pytest.approx(6)
    assert combined_reward(OUTCOME, Decision(("a", "b")), RAIN) == pytest.approx(6)
    assert combined_reward(OUTCOME, _predict("jpeg"), labels=None) == pytest.approx(6)
    assert combined_reward(OUTCOME, _predict("rain"), RAIN, None) == pytest.approx(6)


def test_the_tool_cost_is_subtracted_from_r_q() -> None:
    assert combined_reward(OUTCOME, Decision(("a", "b")), tool_cost=0.25) == pytest.approx(5.5)
    assert combined_reward(OUTCOME, _predict("rain", "haze"), RAIN, 0.5, tool_cost=0.25) == pytest.approx(
        5.5 * 2 / 3 / 2
    )
    assert combined_reward(
        OUTCOME, _predict("rain"), RAIN, reward_form="gated", tool_cost=0.25
    ) == pytest.approx(6.5)
    assert combined_reward(OUTCOME, Decision(("a", "b")), tool_cost=10) == 0
    assert combined_reward(replace(OUTCOME, num_tools=0), Decision(()), tool_cost=10) == pytest.approx(6)


@given(
    r_q=st.floats(-50, 50),
    tools=st.integers(0, 6),
    cost=st.floats(0, 5),
    predicted=sets,
    true=sets,
    consistency=st.floats(0, 1),
)
def test_a_negative_r_q_does_not_reverse_the_product(
    r_q: float, tools: int, cost: float, predicted: frozenset[str], true: frozenset[str], consistency: float
) -> None:
    """R_q of the released code can be negative; a better prediction must not lower the reward then."""
    outcome = Outcome(restored=None, r_q=r_q, num_tools=tools)
    plan = ("a",) * tools
    wrong = combined_reward(outcome, Decision(plan, predicted), true, consistency, tool_cost=cost)
    right = combined_reward(outcome, Decision(plan, true), true, consistency, tool_cost=cost)
    sure = combined_reward(outcome, Decision(plan, predicted), true, 1.0, tool_cost=cost)
    assert 0 <= wrong <= right
    assert wrong <= sure
    expected = max(r_q - cost * tools, 0) * f1_score(predicted, true) * consistency
    assert wrong == pytest.approx(expected)


def test_the_reward_is_a_python_float() -> None:
    for form in ("product", "gated"):
        actual = combined_reward(OUTCOME, _predict("rain"), RAIN, 1, form)  # type: ignore[arg-type]
        assert type(actual) is float
    assert type(combined_reward(OUTCOME, _predict(error=PlanParseError("no")))) is float
