"""The lower bound counts exactly the tool calls that the executor runs."""

from __future__ import annotations

from opera_env.bench.config import STUDY_TOOLS
from opera_env.bench.context import BenchmarkContext
from opera_env.bench.lower_bound import count_tool_calls
from opera_env.execution import Executor
from opera_env.tools import Toolbox


def test_counted_tool_calls_are_those_that_run(bench: BenchmarkContext) -> None:
    samples = [sample for sample in bench.samples for _ in range(6)]
    plans = bench.random_plans(len(samples), 5)
    executor = Executor(bench.toolbox)
    list(executor.run(samples, plans))
    counts = count_tool_calls(bench, samples, plans)
    assert sum(counts.values()) == executor.tools_run
    assert {name for name, _, _ in counts} == set(STUDY_TOOLS)


def test_counted_sizes_follow_the_upscaling_tools() -> None:
    toolbox = Toolbox.load("lite").subset(["unet.super_resolution_lpips", "unet.denoise"])
    bench = BenchmarkContext(toolbox, quick=True)
    small = next(
        sample for sample in BenchmarkContext(toolbox, seed=0).samples if sample.lq.shape[-1] == 32
    )
    counts = count_tool_calls(
        bench, [small], [("unet.denoise", "unet.super_resolution_lpips", "unet.denoise")]
    )
    canvas = (128, 128)
    assert counts == {
        ("unet.denoise", (32, 32), canvas): 1,
        ("unet.super_resolution_lpips", (32, 32), canvas): 1,
        ("unet.denoise", (128, 128), canvas): 1,
    }
