"""The paper's networks at full size, with random weights: time, memory, and how busy the device is.

Plans are measured twice, with all weights on the device and within a limit. On a CPU, times are processor
times: those of one thread if ``OMP_NUM_THREADS`` is 1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from opera_env.bench.context import BenchmarkContext, peak_memory
from opera_env.devices import supports_bfloat16
from opera_env.execution import Executor
from opera_env.tools import Tool, Toolbox
from opera_env.tools.paper import random_paper_tools
from opera_env.tools.residency import Residency
from opera_env.types import Canvas, Plan, Sample, SampleSpec

CPU_SIDES, GPU_SIDES = (64,), (128, 256, 512)
"""Sides of the results in pixels."""

PLAN_LENGTH = 4
_REPEATS = 3

_RESIDENT = 4
"""Number of the largest tools whose weights fit into the limit."""


def paper(bench: BenchmarkContext) -> dict[str, Any]:
    """Measures each of the paper's networks alone, and random plans of four of them.

    The weights are random, because time and memory do not depend on them. Tools that enlarge are given
    images of a quarter of the side.
    """
    toolbox = Toolbox(random_paper_tools(bench.seed), bench.device)
    sides = GPU_SIDES if bench.device.type == "cuda" and not bench.quick else CPU_SIDES
    rate = matrix_rate(bench)
    rows: list[dict[str, Any]] = []
    for tool in (tool for tool in toolbox if tool.parameters):
        for side in sides:
            bench.progress(f"paper: {tool.name} at {side} pixels")
            rows.append({"tool": tool.name, "side": side, **_measure_tool(bench, tool, side, rate)})
    bench.progress(f"paper: plans of {PLAN_LENGTH} tools")
    plans = _measure_plans(bench, toolbox, sides[0])
    limit = sum(sorted(map(_weight_bytes, toolbox), reverse=True)[:_RESIDENT])
    bench.progress(f"paper: plans of {PLAN_LENGTH} tools within {limit / 1e6:.0f} MB")
    toolbox.limit_memory(Residency(bench.device, limit))
    limited = _measure_plans(bench, toolbox, sides[0])
    return {
        "matrix_tflops": rate / 1e12,
        "tools": rows,
        "plans": plans,
        "limited_plans": {"weights_mb": limit / 1e6, **limited},
    }


def _weight_bytes(tool: Tool) -> int:
    """Returns the size of the weights of a tool in bytes, with the space between tensors."""
    module = tool.module
    tensors = () if module is None else (*module.parameters(), *module.buffers())
    return sum(tensor.nbytes + 256 for tensor in tensors)


def matrix_rate(bench: BenchmarkContext) -> float:
    """Returns the floating-point operations per second of products of float32 matrices."""
    side = 512 if bench.quick else 2048
    matrix = torch.rand(side, side, device=bench.device)
    work = partial(torch.matmul, matrix, matrix)
    work()
    return 2 * side**3 / min(bench.busy_seconds(work) for _ in range(_REPEATS))


@torch.inference_mode()
def _measure_tool(bench: BenchmarkContext, tool: Tool, side: int, rate: float) -> dict[str, float | None]:
    """Returns milliseconds, GFLOP, the share of the matrix rate, and peak memory for one image.

    Milliseconds in bfloat16 are None where the device computes slowly in it.
    """
    canvas: Canvas = (side, side)
    image = torch.rand(1, 3, side // tool.scale, side // tool.scale, device=bench.device)
    image = image.contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        tool(image, canvas)
    with peak_memory(bench.device) as peak:
        seconds = min(bench.busy_seconds(partial(tool, image, canvas)) for _ in range(_REPEATS))
    flops = counter.get_total_flops()
    reduced = None
    if supports_bfloat16():
        with torch.autocast(bench.device.type, torch.bfloat16):
            tool(image, canvas)
            reduced = min(bench.busy_seconds(partial(tool, image, canvas)) for _ in range(_REPEATS))
    return {
        "ms": 1e3 * seconds,
        "bfloat16_ms": None if reduced is None else 1e3 * reduced,
        "gflop": flops / 1e9,
        "matrix_rate_share": flops / seconds / rate,
        "peak_mib": peak.bytes / 2**20,
    }


def _measure_plans(bench: BenchmarkContext, toolbox: Toolbox, side: int) -> dict[str, float]:
    """Returns images per second and peak memory of random plans, each on an image of its own."""
    count = 32 if bench.device.type == "cuda" and not bench.quick else 2
    rng = bench.rng()
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(bench.seed))
    samples = [
        Sample(image, None, None, (side, side), SampleSpec("bench", index, (), bench.seed))
        for index, image in enumerate(images)
    ]
    networks = [tool.name for tool in toolbox if tool.parameters]
    plans: list[Plan] = [tuple(map(str, rng.choice(networks, PLAN_LENGTH))) for _ in samples]
    executor = Executor(toolbox)
    with peak_memory(bench.device) as peak:
        seconds = bench.busy_seconds(lambda: list(executor.run(samples, plans)))
    return {
        "side": side,
        "images": count,
        "length": PLAN_LENGTH,
        "images_per_second": count / seconds,
        "peak_mib": peak.bytes / 2**20,
    }
