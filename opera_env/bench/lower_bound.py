"""A lower bound of the time: tools and metrics alone, each in its best batches, without overhead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import torch

from opera_env.bench.context import BenchmarkContext
from opera_env.data.images import quantise, resize
from opera_env.execution import WorkerPool
from opera_env.execution.schedule import Node, build_tries
from opera_env.metrics import MetricSuite
from opera_env.types import Canvas, Plan, Sample

BATCHES = (1, 4, 8, 16, 32)
"""Batch sizes that are tried."""

ToolCall = tuple[str, Canvas, Canvas]
"""A tool, the size of its input image, and the canvas: what determines the time of a call."""


def count_tool_calls(
    bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]
) -> Counter[ToolCall]:
    """Counts the distinct tool calls that plans need when they share their common prefixes."""
    counts: Counter[ToolCall] = Counter()

    def count(node: Node, size: Canvas) -> None:
        canvas = node.sample.canvas
        for name, child in node.children.items():
            counts[name, size, canvas] += 1
            tool = bench.toolbox[name]
            scale = tool.scale if tool.upscales(size, canvas) else 1
            count(child, (size[0] * scale, size[1] * scale))

    for root in build_tries(samples, plans):
        count(root, (root.sample.lq.shape[-2], root.sample.lq.shape[-1]))
    return counts


def lower_bound_seconds(
    bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]
) -> tuple[float, float]:
    """Returns the seconds that the tools alone and the metrics alone need for these plans."""
    tools = 0.0
    for (name, size, canvas), count in sorted(count_tool_calls(bench, samples, plans).items()):
        bench.progress(f"lower bound: {name} on {size[0]} x {size[1]}")
        tools += count * _seconds_per_image(bench, partial(_tool_work, bench, name, size, canvas), count)
    distinct = {sample.key: sample for sample in samples}
    num_scored = len({(sample.key, plan) for sample, plan in zip(samples, plans, strict=True)})
    bench.progress("lower bound: metrics")
    suite = MetricSuite(["psnr_y", "ssim_y", "lpips", "niqe32", "piqe"], bench.device)
    sample = next(iter(distinct.values()))
    metrics = num_scored * _seconds_per_image(bench, partial(_metric_work, suite, sample), num_scored)
    references = len(distinct)
    metrics += references * _seconds_per_image(bench, partial(_reference_work, suite, sample), references)
    return tools, metrics


def _seconds_per_image(
    bench: BenchmarkContext, make_work: Callable[[int], Callable[[], object]], count: int
) -> float:
    """Returns the fewest seconds per image over batch sizes, with batches in turn and in parallel."""
    threads = torch.get_num_threads() if bench.device.type == "cpu" else 1
    fewest = float("inf")
    for batch in BATCHES:
        if batch > max(count, 1):
            break
        work = make_work(batch)
        work()
        for _ in range(1 if bench.quick else 3):
            fewest = min(fewest, bench.seconds(work) / batch)
            if threads > 1:
                concurrent = bench.seconds(partial(_run_concurrently, work, threads))
                fewest = min(fewest, concurrent / batch / threads)
    return fewest


def _run_concurrently(work: Callable[[], object], threads: int) -> None:
    with WorkerPool(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()


def _tool_work(
    bench: BenchmarkContext, name: str, size: Canvas, canvas: Canvas, batch: int
) -> Callable[[], object]:
    images = torch.rand(batch, 3, *size, device=bench.device).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> object:
        return bench.toolbox[name](images, canvas)

    return work


def _metric_work(suite: MetricSuite, sample: Sample, batch: int) -> Callable[[], object]:
    assert sample.reference is not None
    references = suite.features(quantise(sample.reference)[None]) * batch
    images = quantise(resize(sample.lq[None], sample.canvas)).to(suite.device).repeat(batch, 1, 1, 1)
    return partial(suite, images, references)


def _reference_work(suite: MetricSuite, sample: Sample, batch: int) -> Callable[[], object]:
    assert sample.reference is not None
    return partial(suite.features, quantise(sample.reference).repeat(batch, 1, 1, 1))
