"""Evaluation on a cluster: the missing results of a benchmark are computed by its workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from opera_env.cluster import Cluster, map_on_cluster
from opera_env.evaluation.benchmarks import Benchmark
from opera_env.evaluation.evaluate import keep_results, kept_results
from opera_env.evaluation.partial import PartialResults
from opera_env.evaluation.toolbox_runner import ToolboxRunner

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
            missing = tuple(agent for agent in agents if not kept_results(runner, agent, sample, kept))
            count = len(runner.budgets)
            total, done = total + count * len(agents), done + count * (len(agents) - len(missing))
            if missing:
                work.append(SampleWork(number, place, missing))
    progress(done, total)
    if not work:
        return
    for item, results in map_on_cluster(cluster, partial(_make_work, make), work):
        runner, sample = runners[item.runner], benchmark.samples[item.place]
        for agent, found in zip(item.agents, results, strict=True):
            keep_results(runner, agent, sample, kept, found)
            done += len(found)
        progress(done, total)


def _make_work(make: MakeRunners) -> Callable[[SampleWork], list[list[dict[str, Any]]]]:
    """Returns the function that does a piece of work in a worker process."""
    benchmark, runners = make()

    def run(item: SampleWork) -> list[list[dict[str, Any]]]:
        sample, runner = benchmark.samples[item.place], runners[item.runner]
        made = benchmark.make(sample)
        return [
            [result.to_json() for result in runner.run(agent, benchmark, sample, made)]
            for agent in item.agents
        ]

    return run
