"""PlanScorer with several workers: the same outcomes, and references prepared once."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from skimage import data
from torch import Tensor

from opera_env.errors import ToolFailedError
from opera_env.metrics import Features, FunctionMetric, Metric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample, SampleSpec


class Blend(torch.nn.Module):
    """A module, because plain functions do not run in workers."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        return self.factor * image + (1 - self.factor) * image.flip(-1)


class Broken(torch.nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image / 0


class Distance(Metric):
    """A concurrent metric with a reference; records the prepared batches and the threads of its calls."""

    name, higher_is_better, worst, needs_reference, concurrent = "distance", False, 1.0, True, True

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.threads: set[int] = set()

    def features(self, reference: Tensor) -> Features:
        self.prepared.append(len(reference))
        return (reference,)

    def values(self, images: Tensor, reference: Features) -> Tensor:
        self.threads.add(threading.get_ident())
        return (images - reference[0]).abs().mean((1, 2, 3))


@pytest.fixture(autouse=True, params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Sets the number of torch's threads, which is the number of workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _toolbox() -> Toolbox:
    return Toolbox().add("a", Blend(0.9)).add("b", Blend(0.7)).add("c", Blend(0.6))


def _sample(offset: int, side: int = 48) -> Sample:
    crop = data.astronaut()[10 * offset :, 10 * offset :][:side, :side].copy()
    reference = torch.from_numpy(crop).permute(2, 0, 1).float() / 255
    return Sample(reference * 0.8, reference, None, (side, side), SampleSpec("test", offset))


def _reward(metric: Metric) -> Reward:
    return Reward("distance", (RewardTerm(metric, 1, 0, 10),))


def _plain(outcomes: Sequence[Outcome]) -> list[Any]:
    return [
        (
            outcome.r_q,
            outcome.metrics,
            None if outcome.restored is None else outcome.restored.numpy().tobytes(),
        )
        for outcome in outcomes
    ]


PLANS: list[Plan] = all_plans("abc", 2)
PAIRS = [(offset, plan) for offset in range(5) for plan in PLANS]


def _score(scorer: PlanScorer, pairs: Sequence[tuple[int, Plan]] = PAIRS) -> list[Outcome]:
    return scorer.score([_sample(offset) for offset, _ in pairs], [plan for _, plan in pairs])


def test_outcomes_equal_those_of_one_worker() -> None:
    actual = _plain(_score(PlanScorer(_toolbox(), _reward(Distance()), batch_size=4)))
    assert actual == _plain(_score(PlanScorer(_toolbox(), _reward(Distance()), batch_size=4)))
    torch.set_num_threads(1)
    assert actual == _plain(_score(PlanScorer(_toolbox(), _reward(Distance()), batch_size=4)))


def test_references_are_prepared_once_in_one_batch() -> None:
    metric = Distance()
    scorer = PlanScorer(_toolbox(), _reward(metric))
    _score(scorer)
    assert metric.prepared == [5]
    _score(scorer)
    assert metric.prepared == [5], "the features are kept for the next call"


def test_more_references_than_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opera_env.metrics.reference_cache.MAX_CACHED_REFERENCES", 2)
    metric = Distance()
    scorer = PlanScorer(_toolbox(), _reward(metric), batch_size=1)
    expected = _plain(_score(PlanScorer(_toolbox(), _reward(Distance()), batch_size=1)))
    assert _plain(_score(scorer)) == expected
    assert len(scorer._references) == 2


def test_a_concurrent_metric_runs_in_the_workers(threads: int) -> None:
    metric = Distance()
    _score(PlanScorer(_toolbox(), _reward(metric)))
    assert (threading.get_ident() in metric.threads) == (threads == 1)


def test_other_metrics_run_in_the_callers_thread() -> None:
    threads_used: set[threading.Thread] = set()

    def light(images: Tensor) -> Tensor:
        threads_used.add(threading.current_thread())
        return images.mean((1, 2, 3))

    _score(PlanScorer(_toolbox(), _reward(FunctionMetric("light", light, worst=0.0))))
    assert threads_used == {threading.current_thread()}


def test_failed_features_are_not_kept() -> None:
    """Features that were being computed when a tool failed are computed again."""
    metric = Distance()
    scorer = PlanScorer(_toolbox().add("broken", Broken()), _reward(metric), batch_size=1)
    for _ in range(3):
        with pytest.raises(ToolFailedError):
            _score(scorer, [(offset, ("broken",)) for offset in range(5)])
    expected = _plain(_score(PlanScorer(_toolbox(), _reward(Distance()), batch_size=1)))
    assert _plain(_score(scorer)) == expected


def test_a_scorer_with_references_can_be_copied() -> None:
    scorer = PlanScorer(_toolbox(), _reward(Distance()))
    expected = _plain(_score(scorer))
    copied = pickle.loads(pickle.dumps(scorer))
    assert len(scorer._references) == 5 and len(copied._references) == 0
    assert _plain(_score(copied)) == expected


def test_the_number_of_threads_is_restored(threads: int) -> None:
    _score(PlanScorer(_toolbox(), _reward(Distance())))
    assert torch.get_num_threads() == threads
    with pytest.raises(ToolFailedError):
        _score(PlanScorer(Toolbox().add("x", Broken()), _reward(Distance())), [(0, ("x",)), (1, ("x",))])
    assert torch.get_num_threads() == threads
