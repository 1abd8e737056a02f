"""PlanScorer: scores computed by hand, shared work, counters and errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env import weights
from opera_env.errors import MetricError, MissingWeightsError, ToolFailedError, UnknownToolError
from opera_env.execution import PrefixCache
from opera_env.metrics import FunctionMetric, Metric, MetricSuite
from opera_env.reward import REWARD_PRESETS, Reward, RewardTerm, get_reward
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Canvas, Outcome, Plan, Sample, SampleSpec

needs_lpips = pytest.mark.skipif(
    weights.status("lpips") != "present",
    reason="LPIPS' weights are not here: opera-env weights fetch lpips",
)
LOCAL_REWARDS = [pytest.param("lite", marks=needs_lpips), "classic", "label_free"]


def _enlarge(image: Tensor) -> Tensor:
    return F.interpolate(image, scale_factor=4, mode="bilinear")


# Functions on one image, so that a test can also apply them without the executor.
TOOLS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "lighter": (lambda image: image + 0.1, 1),
    "smoother": (lambda image: F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1), 1),
    "larger": (_enlarge, 4),
}


def _toolbox() -> Toolbox:
    toolbox = Toolbox()
    for name, (restore, scale) in TOOLS.items():
        toolbox.add(name, restore, scale=scale)
    return toolbox


def _photograph(place: int, size: Canvas) -> Tensor:
    image = data.astronaut()[40 + 30 * place :, 130 + 20 * place :][: size[0], : size[1]]
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


def _sample(place: int = 0, size: Canvas = (64, 80), shrink: int = 1, labels: Any = None) -> Sample:
    reference = _photograph(place, size)
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(place))
    lq = (reference * 0.8 + 0.05 * noise).clamp(0, 1)
    lq = F.avg_pool2d(lq, shrink)
    return Sample(lq, reference, labels, size, SampleSpec("test", place))


@cache
def _suite(metric: str | Metric) -> MetricSuite:
    return MetricSuite([metric])


def _by_hand(sample: Sample, plan: Plan, reward: Reward) -> Outcome:
    """Scores one plan on one sample step by step: tools, canvas, rounding, each metric, weighted sum."""
    image = sample.lq[None]
    for name in plan:
        restore, scale = TOOLS[name]
        height, width = image.shape[-2:]
        image = restore(image)
        if scale > 1 and not (height < sample.canvas[0] or width < sample.canvas[1]):
            image = F.interpolate(image, (height, width), mode="bicubic", antialias=True)
    if tuple(image.shape[-2:]) != sample.canvas:
        image = F.interpolate(image, sample.canvas, mode="bicubic", antialias=True)
    final = (image[0].clamp(0, 1) * 255).round().to(torch.uint8)
    metrics: dict[str, float] = {}
    for term in reward.terms:
        suite = _suite(term.metric)
        features = []
        if sample.reference is not None:
            features = suite.features((sample.reference[None] * 255).round().to(torch.uint8))
        metrics |= suite(final[None], features)[0]
    zeroed = (not plan and not reward.score_empty_plan) or len(plan) > (reward.max_tools or 99)
    terms: dict[str, float] = {}
    for term in reward.terms:
        scaled = (metrics[term.name] - term.low) / (term.high - term.low)
        if term.clip:
            scaled = min(max(scaled, 0), 1)
        terms[term.name] = 0.0 if zeroed else term.weight * scaled
    return Outcome(final, metrics, terms, sum(terms.values()), len(plan))


def _mean_reward(**options: Any) -> Reward:
    """Returns a reward for brightness, which is fast, needs no reference and is easy to compute by hand."""
    metric = FunctionMetric("light", lambda images: images.mean((1, 2, 3)), worst=0.0)
    return Reward("light", (RewardTerm(metric, 0, 1, 10),), **options)


def _error_reward() -> Reward:
    metric = FunctionMetric(
        "error",
        lambda images, references: (images - references).abs().mean((1, 2, 3)),
        worst=1.0,
        higher_is_better=False,
        needs_reference=True,
    )
    return Reward("error", (RewardTerm(metric, 1, 0, 10),))


PLANS: list[Plan] = [
    (),
    ("lighter",),
    ("smoother", "lighter"),
    ("lighter", "smoother"),
    ("larger",),
    ("larger", "smoother", "larger"),
    ("lighter",) * 7,
]


@pytest.mark.parametrize("reward", LOCAL_REWARDS)
def test_scores_equal_scores_computed_by_hand(reward: str) -> None:
    """Several canvases, sizes, images and plans in one call equal each of them alone."""
    samples = [_sample(0), _sample(1, (64, 64), 4), _sample(2, (96, 128)), _sample(3, (64, 64), 2)]
    pairs = [(sample, plan) for plan in PLANS for sample in samples]
    scorer = PlanScorer(_toolbox(), reward, batch_size=3)
    outcomes = scorer.score(*map(list, zip(*pairs, strict=True)))
    assert len(outcomes) == len(pairs)
    for (sample, plan), outcome in zip(pairs, outcomes, strict=True):
        expected = _by_hand(sample, plan, get_reward(reward))
        assert outcome.num_tools == len(plan)
        assert outcome.restored is not None
        assert outcome.restored.dtype == torch.uint8
        assert tuple(outcome.restored.shape) == (3, *sample.canvas)
        assert expected.restored is not None
        difference = (outcome.restored.int() - expected.restored.int()).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 0.02, "differences of rounding only"
        assert list(outcome.metrics) == list(expected.metrics)
        assert outcome.r_q == pytest.approx(expected.r_q, abs=0.02)
        assert outcome.r_q == pytest.approx(sum(outcome.terms.values()))
        assert type(outcome.r_q) is float
        for name, value in expected.terms.items():
            assert outcome.terms[name] == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize("reward", LOCAL_REWARDS)
def test_the_batch_does_not_change_a_score(reward: str) -> None:
    """Decision 5: batching changes R_q by at most 0.02."""
    samples = [_sample(place, (64, 64)) for place in range(4)]
    pairs = [(sample, plan) for sample in samples for plan in PLANS]
    together = PlanScorer(_toolbox(), reward, batch_size=64).score(*map(list, zip(*pairs, strict=True)))
    alone = PlanScorer(_toolbox(), reward, batch_size=1)
    for (sample, plan), outcome in zip(pairs, together, strict=True):
        (single,) = alone.score([sample], [plan])
        assert outcome.r_q == pytest.approx(single.r_q, abs=0.02)


def test_the_reference_scores_best() -> None:
    sample = _sample(labels=frozenset({"noise"}))
    assert sample.reference is not None
    perfect = Sample(sample.reference, sample.reference, None, sample.canvas, sample.spec)
    scorer = PlanScorer(_toolbox(), "classic")
    (best,) = scorer.score([perfect], [()])
    assert best.metrics["psnr_y"] == pytest.approx(80, abs=1e-3)
    assert best.r_q == pytest.approx(10, abs=1e-3)
    for plan in PLANS:
        (other_outcome,) = scorer.score([sample], [plan])
        assert 0 <= other_outcome.r_q < best.r_q


def test_results_are_resized_to_the_canvas() -> None:
    """Small and large results are resized to the reference by antialiased bicubic interpolation."""
    scorer = PlanScorer(_toolbox(), _mean_reward())
    small = _sample(0, (64, 80), shrink=4)
    (unchanged,) = scorer.score([small], [()])
    expected = F.interpolate(small.lq[None], (64, 80), mode="bicubic", antialias=True)[0]
    assert unchanged.restored is not None
    assert (unchanged.image() - expected.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    # The canvas is a little more than four times larger, so the tool upscales twice: 16 -> 64 -> 256 -> 68.
    reference = _photograph(0, (68, 80))
    odd = Sample(small.lq, reference, None, (68, 80), small.spec)
    (shrunk,) = scorer.score([odd], [("larger", "larger")])
    assert tuple(shrunk.image().shape) == (3, 68, 80)


def test_pixels_are_clamped_and_rounded_once_at_the_end() -> None:
    toolbox = Toolbox().add("up", lambda image: image + 5).add("down", lambda image: image - 5)
    scorer = PlanScorer(toolbox, _mean_reward())
    sample = _sample()
    unchanged, undone, over, under = scorer.score([sample] * 4, [(), ("up", "down"), ("up",), ("down",)])
    assert undone.restored is not None
    assert unchanged.restored is not None
    assert (undone.restored.int() - unchanged.restored.int()).abs().max() <= 1
    assert over.r_q == 10
    assert under.r_q == 0


# Shared work and counters


class _Counting(nn.Module):
    def __init__(self, factor: float = 0.9) -> None:
        super().__init__()
        self.factor = factor
        self.images = 0

    def forward(self, image: Tensor) -> Tensor:
        self.images += len(image)
        return image * self.factor


def _score(scorer: PlanScorer, samples: Sequence[Sample], plans: Sequence[Plan]) -> list[float]:
    return [outcome.r_q for outcome in scorer.score(samples, plans, restored=False)]


def test_equal_work_runs_and_counts_once() -> None:
    first, second = _Counting(0.9), _Counting(0.7)
    scorer = PlanScorer(Toolbox().add("a", first).add("b", second), _mean_reward())
    twins = [_sample(0), _sample(0)]
    other_sample = _sample(1)
    samples = [twins[0], twins[1], other_sample, twins[0], twins[1], other_sample]
    plans: list[Plan] = [("a", "b"), ("a", "b"), ("a", "b"), ("a",), (), ("a", "a")]
    actual = _score(scorer, samples, plans)
    # Distinct results: ab, a, () of one image and ab, aa of the other.
    assert scorer.images_scored == 5
    # Distinct prefixes: a, ab of one and a, ab, aa of the other.
    assert scorer.tools_run == first.images + second.images == 5
    assert actual[0] == actual[1]
    assert len(set(actual)) == 5

    assert _score(scorer, samples, plans) == pytest.approx(actual, abs=1e-4)
    assert (scorer.images_scored, scorer.tools_run) == (10, 10), "the counters add up over all calls"


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_small_batches_score_nothing_twice(batch: int) -> None:
    batch_sizes: list[int] = []

    def light(images: Tensor) -> Tensor:
        batch_sizes.append(len(images))
        return images.mean((1, 2, 3))

    reward = Reward("light", (RewardTerm(FunctionMetric("light", light, worst=0.0), 0, 1, 10),))
    scorer = PlanScorer(_toolbox(), reward, batch_size=batch)
    pairs = [
        (_sample(place, size), plan) for plan in PLANS for place, size in enumerate([(64, 64), (96, 96)])
    ]
    actual = _score(scorer, *map(list, zip(*pairs, strict=True)))
    assert sum(batch_sizes) == scorer.images_scored == len(pairs)
    assert max(batch_sizes) <= max(1, batch * 4), "four images of 64 x 64 pixels count as one of 128 x 128"
    expected = [_by_hand(sample, plan, _mean_reward()).r_q for sample, plan in pairs]
    assert actual == pytest.approx(expected, abs=0.01)


def test_cached_results_are_not_computed_again() -> None:
    tool = _Counting()
    toolbox = Toolbox().add("a", tool)
    scorer = PlanScorer(toolbox, _mean_reward(), cache=PrefixCache())
    sample = _sample()
    actual = [_score(scorer, [sample], [("a",) * length]) for length in range(5)]
    assert scorer.tools_run == tool.images == 4
    assert [_score(scorer, [sample], [("a",) * length]) for length in range(5)] == actual, "the same bits"
    assert scorer.tools_run == 4
    fresh = PlanScorer(toolbox, _mean_reward())
    for length in range(5):
        assert _score(fresh, [sample], [("a",) * length]) == pytest.approx(actual[length], abs=1e-3)


def test_results_of_earlier_weights_are_not_used() -> None:
    """The key of the cache in the released code lacked the weights."""
    network = nn.Conv2d(3, 3, 1, bias=False)
    scorer = PlanScorer(Toolbox().add("a", network), _mean_reward(), cache=PrefixCache())
    sample = _sample()
    actual = []
    for factor in (1.0, 0.5, 1.0):
        with torch.no_grad():
            network.weight.copy_(factor * torch.eye(3)[..., None, None])
        actual += _score(scorer, [sample], [("a",)])
    light = _by_hand(sample, (), _mean_reward()).r_q
    assert actual == pytest.approx([light, light / 2, light], abs=0.02)


def test_outcomes_are_in_the_order_of_the_plans() -> None:
    scorer = PlanScorer(_toolbox(), _mean_reward(), batch_size=2)
    samples = [_sample(0, (64, 64)), _sample(1, (64, 80)), _sample(2, (80, 64))]
    pairs = [(sample, plan) for sample in samples for plan in PLANS]
    rng = np.random.default_rng(0)
    expected = {id(sample): _score(scorer, [sample] * len(PLANS), PLANS) for sample in samples}
    for _ in range(5):
        order = rng.permutation(len(pairs))
        actual = _score(scorer, [pairs[index][0] for index in order], [pairs[index][1] for index in order])
        for index, value in zip(order, actual, strict=True):
            sample, plan = pairs[index]
            assert value == pytest.approx(expected[id(sample)][PLANS.index(plan)], abs=1e-3)


def test_each_sample_is_compared_with_its_own_reference() -> None:
    """Samples with equal inputs and different references are different samples."""
    first = _sample(0, (64, 64))
    second = Sample(first.lq, _photograph(3, (64, 64)), None, (64, 64), first.spec)
    scorer = PlanScorer(_toolbox(), _error_reward())
    outcomes = scorer.score([first, second, first], [("lighter",)] * 3)
    for sample, outcome in zip([first, second, first], outcomes, strict=True):
        expected = _by_hand(sample, ("lighter",), _error_reward())
        assert outcome.metrics["error"] == pytest.approx(expected.metrics["error"], abs=1e-3)
    assert abs(outcomes[0].r_q - outcomes[1].r_q) > 0.1


def test_more_references_than_the_cache_holds() -> None:
    """Features of the least recently used references are dropped and computed again."""
    samples = [_sample(place % 7, (32 + place % 3, 32 + place // 7)) for place in range(80)]
    scorer = PlanScorer(_toolbox(), _error_reward())
    expected = [_by_hand(sample, (), _error_reward()).r_q for sample in samples]
    for _ in range(2):
        assert _score(scorer, samples, [()] * 80) == pytest.approx(expected, abs=1e-3)
    assert len(scorer._references) <= 64


def test_images_are_kept_only_on_request() -> None:
    scorer = PlanScorer(_toolbox(), _mean_reward())
    sample = _sample()
    (with_image,) = scorer.score([sample], [("lighter",)])
    (without,) = scorer.score([sample], [("lighter",)], restored=False)
    assert with_image.restored is not None
    assert without.restored is None
    assert without.r_q == with_image.r_q
    with pytest.raises(ValueError, match="restored=True"):
        without.image()
    assert with_image.image().max() <= 1


def test_a_kept_image_does_not_hold_its_batch_in_memory() -> None:
    outcomes = PlanScorer(_toolbox(), _mean_reward()).score([_sample()] * 4, PLANS[:4])
    for outcome in outcomes:
        assert outcome.restored is not None
        assert outcome.restored.untyped_storage().nbytes() == outcome.restored.nbytes


def test_no_samples_give_no_outcomes() -> None:
    scorer = PlanScorer(_toolbox(), "classic")
    assert scorer.score([], []) == []
    assert (scorer.images_scored, scorer.tools_run) == (0, 0)


def test_the_limits_of_a_reward_on_plans_apply() -> None:
    scorer = PlanScorer(_toolbox(), _mean_reward(score_empty_plan=False, max_tools=2))
    sample = _sample()
    actual = scorer.score([sample] * 4, [(), ("lighter",), ("lighter",) * 2, ("lighter",) * 3])
    assert [outcome.r_q > 0 for outcome in actual] == [False, True, True, False]
    assert all(outcome.metrics["light"] > 0 for outcome in actual), "the metrics are computed all the same"


# Errors


@pytest.mark.parametrize("reward", [pytest.param("lite", marks=needs_lpips), "classic"])
def test_a_missing_reference_raises_with_advice(reward: str) -> None:
    scorer = PlanScorer(_toolbox(), reward)
    with pytest.raises(MetricError, match="label_free"):
        scorer.score([_sample(0), _sample(1).blind()], [(), ()])
    assert scorer.tools_run == 0, "the error is raised before any tool runs"


def test_blind_samples_are_scored_without_reference() -> None:
    sample = _sample(0, (64, 64), labels=frozenset({"noise"}))
    scorer = PlanScorer(_toolbox(), "label_free")
    seeing, blind = scorer.score([sample, sample.blind()], [("smoother",)] * 2)
    assert blind.r_q == pytest.approx(seeing.r_q, abs=0.02)


FAILURES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "raises": (lambda image: image @ torch.zeros(1), "RuntimeError"),
    "not a number": (lambda image: image * float("nan"), "NaN"),
    "infinite": (lambda image: image / 0, "infinity"),
    "another size": (lambda image: image[..., :-1], "shape"),
    "nothing": (lambda image: None, "NoneType"),  # type: ignore[arg-type, return-value]
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_tool_raises_instead_of_scoring_0(failure: str) -> None:
    """The released code ignored every failure, and every plan scored 0."""
    restore, words = FAILURES[failure]
    scorer = PlanScorer(_toolbox().add("broken", restore), _mean_reward())
    samples = [_sample(0), _sample(1)]
    with pytest.raises(ToolFailedError, match=words) as caught:
        scorer.score(samples * 2, [("lighter",), ("lighter", "broken"), (), ()])
    assert caught.value.tool == "broken"
    assert caught.value.prefix == ("lighter",)
    assert caught.value.shape == (3, 64, 80)
    assert all(value > 0 for value in _score(scorer, samples, [("lighter",), ()])), (
        "the scorer still works after the error"
    )


def test_a_failing_metric_raises_instead_of_scoring_0() -> None:
    def broken(images: Tensor) -> Tensor:
        raise KeyError("clipiqa")

    reward = Reward("broken", (RewardTerm(FunctionMetric("mine", broken, worst=0.0), 0, 1, 10),))
    with pytest.raises(MetricError, match="metric 'mine' raised KeyError: 'clipiqa'"):
        PlanScorer(_toolbox(), reward).score([_sample()], [()])


def test_a_metric_value_that_is_not_finite_is_replaced_by_the_worst() -> None:
    metric = FunctionMetric("mine", lambda images: images.mean((1, 2, 3)) / 0, worst=0.25)
    reward = Reward("mine", (RewardTerm(metric, 0, 1, 10),))
    (outcome,) = PlanScorer(_toolbox(), reward).score([_sample()], [()])
    assert outcome.metrics == {"mine": 0.25}
    assert outcome.r_q == pytest.approx(2.5)


def test_an_unknown_tool_raises_before_any_tool_runs() -> None:
    scorer = PlanScorer(_toolbox(), _mean_reward())
    with pytest.raises(UnknownToolError, match=r"'sharper'.*lighter, smoother, larger"):
        scorer.score([_sample()] * 2, [("lighter",), ("lighter", "sharper")])
    assert (scorer.images_scored, scorer.tools_run) == (0, 0)


@pytest.mark.parametrize(("samples", "plans"), [(1, 2), (2, 1), (0, 1)])
def test_different_numbers_of_samples_and_plans_raise(samples: int, plans: int) -> None:
    message = re.escape(f"found {samples} samples and {plans} plans")
    with pytest.raises(ValueError, match=message):
        PlanScorer(_toolbox(), _mean_reward()).score([_sample()] * samples, [()] * plans)


def test_an_image_too_small_for_a_metric_raises() -> None:
    scorer = PlanScorer(_toolbox(), "classic")
    with pytest.raises(MetricError, match=r"gmsd.*32.*24 x 64"):
        scorer.score([_sample(0, (24, 64))], [()])


def test_missing_weights_raise_when_the_scorer_is_made(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    for name in ("lite", "paper", "release"):
        with pytest.raises(MissingWeightsError, match="opera-env weights fetch"):
            PlanScorer(_toolbox(), name)


def test_the_scorer_has_the_names_of_its_tools() -> None:
    scorer = PlanScorer(_toolbox(), "classic")
    assert scorer.tool_names == ("lighter", "smoother", "larger")
    assert scorer.reward is REWARD_PRESETS["classic"]
