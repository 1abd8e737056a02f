"""The floor: tools and metrics alone, each in its best batches, with nothing in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import torch

from opera_env.bench.settings import BenchmarkContext
from opera_env.data.images import quantise, resize
from opera_env.execution import WorkerPool
from opera_env.execution.schedule import Node, build_tries
from opera_env.metrics import MetricSuite
from opera_env.types import Canvas, Plan, Sample

BATCHES = (1, 4, 8, 16, 32)

Application = tuple[str, Canvas, Canvas]
"""A tool, the size of the image it is given, and the canvas."""


def applications(
    bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]
) -> Counter[Application]:
    """Counts the distinct applications of tools that plans need, by what decides their price."""
    counted: Counter[Application] = Counter()

    def count(node: Node, size: Canvas) -> None:
        canvas = node.sample.canvas
        for name, child in node.children.items():
            counted[name, size, canvas] += 1
            tool = bench.toolbox[name]
            scale = tool.scale if tool.upscales(size, canvas) else 1
            count(child, (size[0] * scale, size[1] * scale))

    for root in build_tries(samples, plans):
        count(root, (root.sample.lq.shape[-2], root.sample.lq.shape[-1]))
    return counted


def lower_bound_seconds(
    bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]
) -> tuple[float, float]:
    """Returns the seconds that tools alone and metrics alone need for some plans."""
    tools = 0.0
    for (name, size, canvas), count in sorted(applications(bench, samples, plans).items()):
        bench.progress(f"floor: {name} on {size[0]} x {size[1]}")
        tools += count * _per_image(bench, partial(_tool_work, bench, name, size, canvas), count)
    distinct = {sample.key: sample for sample in samples}
    judged = len({(sample.key, plan) for sample, plan in zip(samples, plans, strict=True)})
    bench.progress("floor: metrics")
    suite = MetricSuite(["psnr_y", "ssim_y", "lpips", "niqe32", "piqe"], bench.device)
    sample = next(iter(distinct.values()))
    metrics = judged * _per_image(bench, partial(_metric_work, suite, sample), judged)
    metrics += len(distinct) * _per_image(bench, partial(_reference_work, suite, sample), len(distinct))
    return tools, metrics


def _per_image(
    bench: BenchmarkContext, work_of: Callable[[int], Callable[[], object]], count: int
) -> float:
    """Returns the least seconds an image takes, whatever the batch, and however threads are used."""
    threads = torch.get_num_threads() if bench.device.type == "cpu" else 1
    least = float("inf")
    for batch in BATCHES:
        if batch > max(count, 1):
            break
        work = work_of(batch)
        work()
        for _ in range(1 if bench.quick else 3):
            least = min(least, bench.seconds(work) / batch)
            if threads > 1:
                least = min(least, bench.seconds(partial(_side_by_side, work, threads)) / batch / threads)
    return least


def _side_by_side(work: Callable[[], object], threads: int) -> None:
    with WorkerPool(threads) as lanes:
        for future in [lanes.submit(work) for _ in range(threads)]:
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
