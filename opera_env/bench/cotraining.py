"""The execution update: memory and time for plans of one to ten tools, against keeping every activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import torch
from spandrel.architectures.NAFNet import NAFNet

from opera_env.bench.context import BenchmarkContext, peak_memory
from opera_env.cotraining import ExecutionConfig, ExecutionUpdate
from opera_env.execution.memory import release_freed_memory
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

LENGTHS = (1, 2, 4, 10)
"""Numbers of tools in a plan."""

_NUM_TOOLS = 2
"""Number of networks that plans alternate between."""

_NUM_REPEATS = 2

_MEMORY_FRACTION = 0.7
"""Share of the free memory that keeping every activation may be expected to need."""


def cotraining(bench: BenchmarkContext) -> list[dict[str, Any]]:
    """Measures one update with small networks, and with random networks of the paper's size."""
    rows: list[dict[str, Any]] = []
    for net, toolbox, batch in _configurations(bench):
        bench.progress(f"cotraining: {net}")
        updates = {
            mode: ExecutionUpdate(
                toolbox, ExecutionConfig(loss="pixel", lr=0.0, micro_batch_size=batch, checkpointing=mode)
            )
            for mode in ("never", "auto")
        }
        samples = bench.samples[:1] * batch
        _step(bench, updates["auto"], samples, toolbox.names)  # allocates the gradients of all tools
        _step(bench, updates["never"], samples, toolbox.names)
        baseline: list[tuple[int, float]] = []
        for length in LENGTHS[:2] if bench.quick else LENGTHS:
            plan = tuple(toolbox.names[step % _NUM_TOOLS] for step in range(length))
            row: dict[str, Any] = {"net": net, "length": length, "batch": batch}
            row["ours_mib"], row["ours_s"] = _step(bench, updates["auto"], samples, plan)
            row["baseline_mib"] = row["baseline_s"] = None
            if _fits(bench, baseline, length):
                row["baseline_mib"], row["baseline_s"] = _step(bench, updates["never"], samples, plan)
                baseline.append((length, row["baseline_mib"]))
            rows.append(row)
    return rows


def _configurations(bench: BenchmarkContext) -> Iterator[tuple[str, Toolbox, int]]:
    """Yields a name, a toolbox of two networks, and the number of patches in a batch."""
    lite = Toolbox.load("lite", bench.device).subset(["unet.denoise", "unet.dejpeg"])
    yield "lite", lite, 2 if bench.quick else 8
    blocks = (1, 1) if bench.quick else (2, 2, 4, 8)
    large = Toolbox(device=bench.device)
    parameters = 0
    for number in range(_NUM_TOOLS):
        torch.manual_seed(bench.seed + number)
        net = NAFNet(
            width=8 if bench.quick else 32,
            middle_blk_num=1 if bench.quick else 12,
            enc_blk_nums=list(blocks),
            dec_blk_nums=[1, 1] if bench.quick else [2, 2, 2, 2],
        )
        large.add(f"large.{number}", net, multiple=2 ** len(blocks))
        parameters = sum(parameter.numel() for parameter in net.parameters())
    millions = parameters / 1e6
    yield f"nafnet {millions:.0f} M", large, 1 if bench.quick else 2


def _fits(bench: BenchmarkContext, measured: list[tuple[int, float]], length: int) -> bool:
    """Returns whether keeping every activation will fit, extrapolated from shorter plans."""
    if not measured or length == 1:
        return True
    per_tool = max(mib / shorter for shorter, mib in measured)
    if bench.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(bench.device)
    else:
        free = psutil.virtual_memory().available
    return length == measured[-1][0] + 1 or per_tool * length * 2**20 < _MEMORY_FRACTION * free


def _step(
    bench: BenchmarkContext, update: ExecutionUpdate, samples: list[Sample], plan: Plan
) -> tuple[float, float]:
    """Returns the peak memory of a step beyond what was held before, in MiB, and its fewest seconds."""
    samples = [replace(sample, lq=_reference(sample)) for sample in samples]
    plans, extra_bytes, seconds = [plan] * len(samples), list[int](), list[float]()
    for _ in range(_NUM_REPEATS):
        release_freed_memory()
        with peak_memory(bench.device) as before:
            pass
        with peak_memory(bench.device) as peak:
            seconds.append(bench.seconds(lambda: update.step(samples, plans)))
        extra_bytes.append(peak.bytes - before.bytes)
    return max(extra_bytes) / 2**20, min(seconds)


def _reference(sample: Sample) -> torch.Tensor:
    """Returns the reference: it has the size of the canvas, so that all plans cost the same."""
    assert sample.reference is not None
    return sample.reference
