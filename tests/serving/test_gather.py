"""Calls that come together are scored together; what fails, is abandoned or is too much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
import torch

from opera_env.errors import SampleError, ToolFailedError
from opera_env.scoring import PlanScorer
from opera_env.serving.gather import AbandonedError, Call, Gatherer, QueueFullError
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


def call_for(sample: Sample, *plans: Plan, **options: Any) -> Call:
    return Call([lambda: sample] * len(plans), list(plans), **options)


async def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.fixture
def scorer(toolbox: Toolbox) -> PlanScorer:
    toolbox.add("tiny.fails", lambda image: image[..., 1:])
    return PlanScorer(toolbox, "classic")


def test_calls_that_come_together_share_a_batch(scorer: PlanScorer, samples: list[Sample]) -> None:
    batches: list[int] = []
    gatherer = Gatherer(scorer, 0.05, on_batch=lambda plans, seconds: batches.append(plans))
    plans = [("tiny.blur",), ("tiny.blur", "tiny.darken"), ("tiny.blur", "tiny.brighten")]

    async def run() -> list[Any]:
        return await together(*(gatherer.score(call_for(samples[0], plan)) for plan in plans))

    scored = asyncio.run(run())
    assert batches == [3]
    assert scorer.tools_run == 3, "the prefix that all three share ran once"
    expected = scorer.score([samples[0]] * 3, plans)
    assert [outcome.r_q for ((_, outcome),) in scored] == [outcome.r_q for outcome in expected]
    assert all(sample is samples[0] for ((sample, _),) in scored)


def test_a_complete_batch_does_not_wait(scorer: PlanScorer, samples: list[Sample]) -> None:
    batches: list[int] = []
    gatherer = Gatherer(scorer, 60, max_batch=2, on_batch=lambda plans, seconds: batches.append(plans))

    async def run() -> list[Any]:
        return await together(*(gatherer.score(call_for(samples[0], ())) for _ in range(4)))

    start = time.monotonic()
    assert len(asyncio.run(run())) == 4
    assert batches == [2, 2] and time.monotonic() - start < 30


def test_a_failure_spoils_its_own_call_only(scorer: PlanScorer, samples: list[Sample]) -> None:
    gatherer = Gatherer(scorer, 0.05)

    def make_none() -> Sample:
        raise SampleError("no such sample")

    async def run() -> list[Any]:
        return await together(
            gatherer.score(call_for(samples[0], ("tiny.blur",))),
            gatherer.score(call_for(samples[0], ("tiny.fails",))),
            gatherer.score(Call([make_none], [()])),
            gatherer.score(call_for(samples[1], (), ("tiny.darken",))),
        )

    good, failed, unmade, other = asyncio.run(run())
    assert len(good) == 1 and len(other) == 2
    assert isinstance(failed, ToolFailedError) and failed.tool == "tiny.fails"
    assert isinstance(unmade, SampleError)


def test_calls_of_clients_that_have_gone_are_not_scored(scorer: PlanScorer, samples: list[Sample]) -> None:
    gatherer = Gatherer(scorer, 0.02)

    async def gone() -> bool:
        return True

    async def run() -> list[Any]:
        return await together(
            gatherer.score(call_for(samples[0], ("tiny.blur",), is_abandoned=gone)),
            gatherer.score(call_for(samples[0], ("tiny.darken",))),
        )

    abandoned, scored = asyncio.run(run())
    assert isinstance(abandoned, AbandonedError) and len(scored) == 1
    assert scorer.tools_run == 1 and gatherer.waiting == 0


def test_more_plans_than_may_wait_are_refused(scorer: PlanScorer, samples: list[Sample]) -> None:
    gatherer = Gatherer(scorer, 0.05, max_queue=3)

    async def run() -> list[Any]:
        return await together(
            gatherer.score(call_for(samples[0], (), ())),
            gatherer.score(call_for(samples[0], (), ())),
            gatherer.score(call_for(samples[0], ())),
        )

    first, second, third = asyncio.run(run())
    assert len(first) == 2 and len(third) == 1
    assert isinstance(second, QueueFullError) and "--max-queue" in str(second)


def test_an_error_that_nobody_expects_reaches_every_call(
    scorer: PlanScorer, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    gatherer = Gatherer(scorer, 0.02)

    async def run() -> list[Any]:
        with monkeypatch.context() as patched:
            patched.setattr(scorer, "score", lambda *args, **options: 1 / 0)
            errors = await together(*(gatherer.score(call_for(samples[0], ())) for _ in range(2)))
        return [*errors, await gatherer.score(call_for(samples[0], ()))]

    first, second, scored = asyncio.run(run())
    assert isinstance(first, ZeroDivisionError) and isinstance(second, ZeroDivisionError)
    assert len(scored) == 1, "the next call is scored"


def test_images_are_kept_for_those_that_want_them(scorer: PlanScorer, samples: list[Sample]) -> None:
    gatherer = Gatherer(scorer, 0.0)
    ((_, outcome),) = asyncio.run(gatherer.score(call_for(samples[0], ("tiny.darken",), restored=True)))
    (expected,) = scorer.score([samples[0]], [("tiny.darken",)])
    assert outcome.restored is not None and expected.restored is not None
    assert torch.equal(outcome.restored, expected.restored)
