"""Batching of results for scoring: batches of one canvas, their sizes, and the number of workers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from opera_env.execution import MAX_UNTILED_PIXELS, MAX_WORKERS, ExecutionResult
from opera_env.execution.batching import batch_by_canvas, count_workers

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def _results(make_sample: Any, *canvases: tuple[int, int]) -> list[ExecutionResult]:
    samples = [make_sample(seed, canvas) for seed, canvas in enumerate(canvases)]
    return [ExecutionResult(sample, (), sample.lq) for sample in samples]


def test_a_batch_has_one_canvas_and_is_yielded_when_it_is_full(make_sample: Any) -> None:
    small, large = (8, 8), (8, 16)
    results = _results(make_sample, small, large, small, small, large, small)
    read: list[int] = []
    stream = (read.append(index) or result for index, result in enumerate(results))
    batches = batch_by_canvas(stream, batch_pixels=2 * 64, num_plans=6, num_workers=1)
    assert next(batches) == [results[1]], "a large image is a batch of its own"
    assert read == [0, 1]
    assert [[results.index(result) for result in batch] for batch in batches] == [[0, 2], [4], [3, 5]]


def test_the_last_batches_may_be_smaller(make_sample: Any) -> None:
    results = _results(make_sample, *[(8, 8)] * 5)
    batches = list(batch_by_canvas(results, batch_pixels=3 * 64, num_plans=5, num_workers=1))
    assert [len(batch) for batch in batches] == [3, 2]


@pytest.mark.parametrize(("num_plans", "size"), [(10, 4), (32, 4), (40, 5), (1000, 16)])
def test_batches_are_smaller_if_workers_would_be_idle(make_sample: Any, num_plans: int, size: int) -> None:
    """Two batches per worker, of at least 4 and at most 16 images here."""
    results = _results(make_sample, *[(8, 8)] * 16)
    first = next(batch_by_canvas(results, batch_pixels=16 * 64, num_plans=num_plans, num_workers=4))
    assert len(first) == size


def test_several_workers_only_for_small_images_on_a_cpu(
    make_sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    small = make_sample(0, (8, 8))
    large = make_sample(0, (8, 8), canvas=(MAX_UNTILED_PIXELS, 2))
    assert count_workers([small, small], CPU) == 6
    assert count_workers([small], CPU) == count_workers([small, large], CPU) == 1
    assert count_workers([small, small], GPU) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert count_workers([small, small], CPU) == MAX_WORKERS
