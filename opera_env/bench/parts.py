"""The parts of the benchmark: what each measures, and how far its figures are from their goals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opera_env.bench.cotrain import cotrain
from opera_env.bench.environments import overhead, vector
from opera_env.bench.large import MAX_MEMORY, large
from opera_env.bench.plans import exhaustive, group, growth, service
from opera_env.bench.settings import BenchmarkContext


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What was measured.
        value: The figure, with its unit.
        goal: What it should be; empty where there is no goal.
        met: Whether it is.
    """

    what: str
    value: str
    goal: str = ""
    met: bool = True


@dataclass(frozen=True)
class Part:
    """One part of the benchmark.

    Attributes:
        measure: Returns its figures as JSON types.
        figures: Reads them out.
    """

    measure: Callable[[BenchmarkContext], Any]
    figures: Callable[[Any], Iterator[Figure]]


def _ratio(what: str, value: float, goal: float, most: bool = False) -> Figure:
    """A ratio that should be at least its goal, or at most."""
    met = value <= goal if most else value >= goal
    return Figure(what, f"{value:.2f} x", f"{'<=' if most else '>='} {goal:g} x", met)


def _beside_naive_and_floor(result: Mapping[str, float]) -> Iterator[Figure]:
    plans, count = result["plans"], result["applications"]
    yield Figure(f"{plans:.0f} plans, {count:.0f} applications of tools", f"{result['ours_s']:.2f} s")
    yield Figure("plans a second", f"{plans / result['ours_s']:.0f}")
    yield _ratio(f"the naive way, {result['naive_s']:.1f} s", result["naive_s"] / result["ours_s"], 5)
    tools, metrics = result["floor_tools_s"], result["floor_metrics_s"]
    floor = f"of the floor, {result['floor_s']:.2f} s (tools {tools:.2f}, metrics {metrics:.2f})"
    yield _ratio(floor, result["ours_s"] / result["floor_s"], 1.25, most=True)


def _beside_service(result: Mapping[str, float]) -> Iterator[Figure]:
    yield _ratio(f"the service, {result['service_s']:.1f} s", result["service_s"] / result["ours_s"], 5)


def _vectors(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    for row in rows:
        name = f"{row['num_envs']} environments, groups of {row['group_size']}"
        others = {key: row[key] for key in ("sync_sps", "async_sps") if key in row}
        rates = ", ".join(f"{key[:-4]} {rate:.1f}" for key, rate in others.items())
        yield Figure(f"{name}, steps a second ({rates})", f"{row['ours_sps']:.1f}")
        ratio, goal = row["ours_sps"] / max(others.values()), 1.2 if row["group_size"] == 1 else 2.0
        if "async_sps" in others:
            yield _ratio(f"{name}, the better one", ratio, goal)
        else:
            yield Figure(f"{name}, sync; no memory for async, so no goal", f"{ratio:.2f} x")


def _overheads(result: Mapping[str, float]) -> Iterator[Figure]:
    for game, milliseconds in result.items():
        yield Figure(
            f"a {game} step beside tools and metrics", f"{milliseconds:.2f} ms", "< 1 ms", milliseconds < 1
        )


def _larges(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    for row in rows:
        peak = row["peak_gb"]
        name = f"{row['megapixels']:.0f} megapixels"
        yield Figure(f"{name}, peak memory", f"{peak:.2f} GB", f"< {MAX_MEMORY} GB", peak < MAX_MEMORY)
        yield Figure(f"{name}, {' > '.join(row['tools'])}", f"{row['s_per_megapixel']:.2f} s per megapixel")
    ratio = rows[-1]["s_per_megapixel"] / rows[0]["s_per_megapixel"]
    yield Figure("a megapixel of the larger one", f"{ratio:.2f} x", "0.9 to 1.1 x", 0.9 <= ratio <= 1.1)


def _growths(result: Mapping[str, list[dict[str, Any]]]) -> Iterator[Figure]:
    for what, rows in result.items():
        for row in rows:
            name = (
                f"{row['plans']} plans"
                if what == "plans"
                else f"{row['images']} images, {row['plans']} plans"
            )
            value = f"{row['ms_per_application']:.2f} ms, {row['peak_mib']:.0f} MiB"
            yield Figure(f"{name}, {row['applications']} applications: each, and peak memory", value)
        first, last = rows[0]["ms_per_application"], rows[-1]["ms_per_application"]
        yield _ratio(f"an application at the most {what}, beside the fewest", last / first, 1.15, most=True)


def _cotrains(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    for net in dict.fromkeys(row["net"] for row in rows):
        of_net = [row for row in rows if row["net"] == net]
        for row in of_net:
            kept = "does not fit" if row["plain_mib"] is None else f"{row['plain_mib']:.0f} MiB"
            name = f"{net}, {row['length']} tools (everything kept: {kept})"
            yield Figure(name, f"{row['ours_mib']:.0f} MiB, {row['ours_s']:.2f} s")
            if row["plain_s"]:
                yield _ratio(
                    f"{net}, {row['length']} tools, time", row["ours_s"] / row["plain_s"], 1.4, True
                )
        first, last = of_net[0], of_net[-1]
        goal = 2.0 if net == "lite" else 1.25
        what = f"{net}, memory of {last['length']} tools beside {first['length']}"
        yield _ratio(what, last["ours_mib"] / first["ours_mib"], goal, most=True)


PARTS: Mapping[str, Part] = {
    "exhaustive": Part(exhaustive, _beside_naive_and_floor),
    "group": Part(group, _beside_naive_and_floor),
    "service": Part(service, _beside_service),
    "vector": Part(vector, _vectors),
    "overhead_ms": Part(overhead, _overheads),
    "large": Part(large, _larges),
    "growth": Part(growth, _growths),
    "cotrain": Part(cotrain, _cotrains),
}
"""By the key they have in the JSON file."""
