"""Turns the figures of each benchmark into the rows of a table, with their targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opera_env.bench.large import MAX_MEMORY


@dataclass(frozen=True)
class ReportRow:
    """One row of the table.

    Attributes:
        label: What was measured.
        value: The figure with its unit.
        target: The target of the figure; empty if there is none.
        met: Whether the target is met.
    """

    label: str
    value: str
    target: str = ""
    met: bool = True


def _ratio(label: str, value: float, target: float, at_most: bool = False) -> ReportRow:
    met = value <= target if at_most else value >= target
    return ReportRow(label, f"{value:.2f} x", f"{'<=' if at_most else '>='} {target:g} x", met)


def report_baselines(result: Mapping[str, float]) -> Iterator[ReportRow]:
    """Reports the time relative to the naive implementation and to the lower bound."""
    plans, count = result["plans"], result["tool_calls"]
    yield ReportRow(f"{plans:.0f} plans, {count:.0f} tool calls", f"{result['ours_s']:.2f} s")
    yield ReportRow("plans per second", f"{plans / result['ours_s']:.0f}")
    naive = f"speed-up over the naive implementation ({result['naive_s']:.1f} s)"
    yield _ratio(naive, result["naive_s"] / result["ours_s"], 5)
    tools, metrics = result["lower_bound_tools_s"], result["lower_bound_metrics_s"]
    bound = f"{result['lower_bound_s']:.2f} s: tools {tools:.2f}, metrics {metrics:.2f}"
    label = f"time relative to the lower bound ({bound})"
    yield _ratio(label, result["ours_s"] / result["lower_bound_s"], 1.25, at_most=True)


def report_service(result: Mapping[str, float]) -> Iterator[ReportRow]:
    """Reports the time relative to the HTTP service."""
    label = f"speed-up over the HTTP service ({result['service_s']:.1f} s)"
    yield _ratio(label, result["service_s"] / result["ours_s"], 5)


def report_vector(rows: list[dict[str, Any]]) -> Iterator[ReportRow]:
    """Reports steps per second relative to Gymnasium's vector environments."""
    for row in rows:
        name = f"{row['num_envs']} environments, groups of {row['group_size']}"
        others = {key: row[key] for key in ("sync_sps", "async_sps") if key in row}
        rates = ", ".join(f"{key[:-4]} {rate:.1f}" for key, rate in others.items())
        yield ReportRow(f"{name}, steps per second ({rates})", f"{row['native_sps']:.1f}")
        ratio, target = row["native_sps"] / max(others.values()), 1.2 if row["group_size"] == 1 else 2.0
        if "async_sps" in others:
            yield _ratio(f"{name}, relative to the faster one", ratio, target)
        else:
            label = f"{name}, relative to sync (not enough memory for async, so no target)"
            yield ReportRow(label, f"{ratio:.2f} x")


def report_overhead(result: Mapping[str, float]) -> Iterator[ReportRow]:
    """Reports the milliseconds of a step that are neither tools nor metrics."""
    for env_id, milliseconds in result.items():
        label = f"a {env_id} step without tools and metrics"
        yield ReportRow(label, f"{milliseconds:.2f} ms", "< 1 ms", milliseconds < 1)


def report_large(rows: list[dict[str, Any]]) -> Iterator[ReportRow]:
    """Reports peak memory and time per megapixel of large photographs."""
    for row in rows:
        peak = row["peak_gb"]
        name = f"{row['megapixels']:.0f} megapixels"
        yield ReportRow(f"{name}, peak memory", f"{peak:.2f} GB", f"< {MAX_MEMORY} GB", peak < MAX_MEMORY)
        rate = f"{row['s_per_megapixel']:.2f} s per megapixel"
        yield ReportRow(f"{name}, {' > '.join(row['tools'])}", rate)
    ratio = rows[-1]["s_per_megapixel"] / rows[0]["s_per_megapixel"]
    label = "time per megapixel, larger relative to smaller"
    yield ReportRow(label, f"{ratio:.2f} x", "0.9 to 1.1 x", 0.9 <= ratio <= 1.1)


def report_scaling(result: Mapping[str, list[dict[str, Any]]]) -> Iterator[ReportRow]:
    """Reports time per tool call and peak memory for growing numbers of plans and images."""
    for varied, rows in result.items():
        for row in rows:
            name = f"{row['plans']} plans"
            if varied == "images":
                name = f"{row['images']} images, {name}"
            value = f"{row['ms_per_tool_call']:.2f} ms, {row['peak_mib']:.0f} MiB"
            yield ReportRow(f"{name}, {row['tool_calls']} tool calls: each, and peak memory", value)
        first, last = rows[0]["ms_per_tool_call"], rows[-1]["ms_per_tool_call"]
        yield _ratio(f"time per tool call, most to fewest {varied}", last / first, 1.15, at_most=True)


def report_cotraining(rows: list[dict[str, Any]]) -> Iterator[ReportRow]:
    """Reports memory and time of the execution update relative to keeping every activation."""
    for net in dict.fromkeys(row["net"] for row in rows):
        net_rows = [row for row in rows if row["net"] == net]
        for row in net_rows:
            fits = row["baseline_mib"] is not None
            baseline = f"{row['baseline_mib']:.0f} MiB" if fits else "does not fit"
            name = f"{net}, {row['length']} tools"
            value = f"{row['ours_mib']:.0f} MiB, {row['ours_s']:.2f} s"
            yield ReportRow(f"{name} (all activations kept: {baseline})", value)
            if row["baseline_s"]:
                yield _ratio(f"{name}, time", row["ours_s"] / row["baseline_s"], 1.4, at_most=True)
        first, last = net_rows[0], net_rows[-1]
        target = 2.0 if net == "lite" else 1.25
        label = f"{net}, memory of {last['length']} tools relative to {first['length']}"
        yield _ratio(label, last["ours_mib"] / first["ours_mib"], target, at_most=True)


_STARTUP_TARGETS = {
    "import opera_env": 0.25,
    "gym.make": 1.5,
    "opera-env --help": 0.4,
    "opera-env restore --help": 0.4,
    "opera-env restore": 2.0,
}
"""Largest CPU time relative to the import of torch."""


def report_startup(result: Mapping[str, float]) -> Iterator[ReportRow]:
    """Reports the CPU seconds of starts, and their time relative to the import of torch."""
    torch = result["import torch"]
    for name, seconds in result.items():
        target = _STARTUP_TARGETS.get(name)
        if target is None:
            yield ReportRow(name, f"{seconds:.2f} s")
        else:
            label = f"{name}, {seconds:.2f} s, relative to import torch"
            yield _ratio(label, seconds / torch, target, at_most=True)


def report_paper(result: Mapping[str, Any]) -> Iterator[ReportRow]:
    """Reports time and memory of the paper's networks, and images per second of plans."""
    yield ReportRow("products of float32 matrices", f"{result['matrix_tflops']:.2f} TFLOP/s")
    for row in result["tools"]:
        share = f"{row['matrix_rate_share']:.0%} of that rate"
        reduced = "" if row["bfloat16_ms"] is None else f" ({row['bfloat16_ms']:.0f} ms in bfloat16)"
        value = f"{row['ms']:.0f} ms{reduced}, {share}, {row['peak_mib']:.0f} MiB"
        yield ReportRow(f"{row['tool']}, {row['side']} px, {row['gflop']:.0f} GFLOP", value)
    for plans in (result["plans"], result["limited_plans"]):
        limit = f", weights within {plans['weights_mb']:.0f} MB" if "weights_mb" in plans else ""
        label = f"plans of {plans['length']} tools, {plans['side']} px{limit}, {plans['peak_mib']:.0f} MiB"
        yield ReportRow(label, f"{plans['images_per_second']:.2f} images per second")
