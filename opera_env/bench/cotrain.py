"""The execution update: memory and time of plans of one to ten tools, beside keeping every activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import torch
from spandrel.architectures.NAFNet import NAFNet

from opera_env.bench.settings import BenchmarkContext, peak_memory
from opera_env.cotraining import ExecutionConfig, ExecutionUpdate
from opera_env.execution.memory import release_freed_memory
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

LENGTHS = (1, 2, 4, 10)
_TOOLS = 2
"""Networks that plans alternate between."""

_ROUNDS = 2

_ROOM = 0.7
"""Share of the memory that is free which the plain way may be expected to need."""


def cotrain(bench: BenchmarkContext) -> list[dict[str, Any]]:
    """Trains with small networks and with ones of the paper's size, which have random weights."""
    rows: list[dict[str, Any]] = []
    for net, toolbox, batch in _worlds(bench):
        bench.progress(f"cotrain: {net}")
        updates = {
            mode: ExecutionUpdate(
                toolbox, ExecutionConfig(loss="pixel", lr=0.0, at_once=batch, checkpointing=mode)
            )
            for mode in ("never", "auto")
        }
        samples = bench.samples[:1] * batch
        _step(bench, updates["auto"], samples, toolbox.names)  # every tool has had a gradient
        _step(bench, updates["never"], samples, toolbox.names)
        plain: list[tuple[int, float]] = []
        for length in LENGTHS[:2] if bench.quick else LENGTHS:
            plan = tuple(toolbox.names[step % _TOOLS] for step in range(length))
            row: dict[str, Any] = {"net": net, "length": length, "batch": batch}
            row["ours_mib"], row["ours_s"] = _step(bench, updates["auto"], samples, plan)
            row["plain_mib"] = row["plain_s"] = None
            if _fits(bench, plain, length):
                row["plain_mib"], row["plain_s"] = _step(bench, updates["never"], samples, plan)
                plain.append((length, row["plain_mib"]))
            rows.append(row)
    return rows


def _worlds(bench: BenchmarkContext) -> Iterator[tuple[str, Toolbox, int]]:
    """Yields a name, two networks, and how many patches are trained on at once."""
    lite = Toolbox.load("lite", bench.device).subset(["unet.denoise", "unet.dejpeg"])
    yield "lite", lite, 2 if bench.quick else 8
    blocks = (1, 1) if bench.quick else (2, 2, 4, 8)
    large = Toolbox(device=bench.device)
    parameters = 0
    for number in range(_TOOLS):
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
    """Whether keeping everything will fit, judging by the shorter plans: it grows with the length."""
    if not measured or length == 1:
        return True
    per_tool = max(mib / shorter for shorter, mib in measured)
    if bench.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(bench.device)
    else:
        free = psutil.virtual_memory().available
    return length == measured[-1][0] + 1 or per_tool * length * 2**20 < _ROOM * free


def _step(
    bench: BenchmarkContext, update: ExecutionUpdate, samples: list[Sample], plan: Plan
) -> tuple[float, float]:
    """Returns the most memory that a step takes beyond what was held, in MiB, and its least seconds."""
    samples = [replace(sample, lq=_patch(sample)) for sample in samples]
    plans, held, seconds = [plan] * len(samples), list[int](), list[float]()
    for _ in range(_ROUNDS):
        release_freed_memory()
        with peak_memory(bench.device) as before:
            pass
        with peak_memory(bench.device) as peak:
            seconds.append(bench.seconds(lambda: update.step(samples, plans)))
        held.append(peak.bytes - before.bytes)
    return max(held) / 2**20, min(seconds)


def _patch(sample: Sample) -> torch.Tensor:
    """An image as large as its canvas, so that all plans cost the same."""
    assert sample.reference is not None
    return sample.reference
