"""Evaluation on a cluster: the missing results of a benchmark are computed by its workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from opera_env.cluster import Cluster, map_on_cluster
from opera_env.evaluation.benchmarks import Benchmark
from opera_env.evaluation.evaluate import ToolboxRunner
from opera_env.evaluation.partial import PartialResults

MakeRunners = Callable[[], tuple[Benchmark, Sequence[ToolboxRunner]]]
"""Returns the benchmark and the runners in a worker process, equal to those of the driver."""


@dataclass(frozen=True)
class SampleWork:
    """The agents of one toolbox that have no result on a sample yet.

    Attributes:
        runner: Index of the runner.
        place: Index of the sample in the benchmark.
        agents: Names of the agents.
    """

    runner: int
    place: int
    agents: tuple[str, ...]


def evaluate_on_cluster(
    benchmark: Benchmark,
    runners: Sequence[ToolboxRunner],
    kept: PartialResults,
    make: MakeRunners,
    cluster: Cluster,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Computes all results that are not kept yet, and keeps each as soon as it is there.

    :func:`opera_env.evaluation.evaluate.evaluate` then finds every result kept, and computes none.

    Args:
        benchmark: The benchmark.
        runners: One for each toolbox.
        kept: Keeps the results.
        make: Makes benchmark and runners in each worker process; it is pickled.
        cluster: Where the work runs.
        progress: Called with the number of results done and in all.
    """
    work: list[SampleWork] = []
    total = done = 0
    for number, runner in enumerate(runners):
        for place, sample in enumerate(benchmark.samples):
            agents = runner.agents_for(sample)
            missing = tuple(agent for agent in agents if kept.get(runner.key(agent, sample)) is None)
            total, done = total + len(agents), done + len(agents) - len(missing)
            if missing:
                work.append(SampleWork(number, place, missing))
    progress(done, total)
    if not work:
        return
    for item, results in map_on_cluster(cluster, partial(_make_work, make), work):
        runner, sample = runners[item.runner], benchmark.samples[item.place]
        for agent, result in zip(item.agents, results, strict=True):
            kept.save(runner.key(agent, sample), result)
        done += len(results)
        progress(done, total)


def _make_work(make: MakeRunners) -> Callable[[SampleWork], list[dict[str, Any]]]:
    """Returns the function that does a piece of work in a worker process."""
    benchmark, runners = make()

    def run(item: SampleWork) -> list[dict[str, Any]]:
        sample, runner = benchmark.samples[item.place], runners[item.runner]
        made = benchmark.make(sample)
        return [runner.run(agent, benchmark, sample, made).to_json() for agent in item.agents]

    return run
