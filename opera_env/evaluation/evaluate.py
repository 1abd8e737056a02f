"""Evaluates agents with toolboxes on a benchmark, one sample at a time.

A work item is a toolbox, an agent and a sample. Its results, one for each budget, depend on these and on
the settings alone, except for the seconds: items may run in any order, in several processes, and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from opera_env.evaluation.benchmarks import Benchmark, BenchmarkSample
from opera_env.evaluation.partial import PartialResults
from opera_env.evaluation.results import Result
from opera_env.evaluation.toolbox_runner import ToolboxRunner
from opera_env.types import Sample


def evaluate(
    benchmark: Benchmark,
    runners: Sequence[ToolboxRunner],
    kept: PartialResults | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """Runs all agents of all toolboxes on all samples.

    Args:
        benchmark: The benchmark.
        runners: One for each toolbox.
        kept: Keeps each result as soon as it is there. Those that it has are not computed again.
        progress: Called with the number of work items done and in all.

    Returns:
        The results by toolbox, agent, budget and sample, in the order in which these are given; budgets
        ascend.

    Raises:
        AgentError: If an agent does not follow the protocol.
        SampleError: If a sample is not the one of the benchmark.
    """
    total = sum(
        len(runner.agents_for(sample)) * len(runner.budgets)
        for runner in runners
        for sample in benchmark.samples
    )
    results: dict[tuple[int, str, int | None, int], Result] = {}
    for number, runner in enumerate(runners):
        for place, sample in enumerate(benchmark.samples):
            for agent, found in _results_of(runner, benchmark, sample, kept):
                results |= {
                    (number, agent, budget, place): result
                    for budget, result in zip(runner.budgets, found, strict=True)
                }
                progress(len(results), total)
    order = [
        (number, agent, budget, place)
        for number, runner in enumerate(runners)
        for agent in runner.agent_names
        for budget in runner.budgets
        for place in range(len(benchmark.samples))
    ]
    return [results[item] for item in order if item in results]


def _results_of(
    runner: ToolboxRunner, benchmark: Benchmark, sample: BenchmarkSample, kept: PartialResults | None
) -> Iterator[tuple[str, list[Result]]]:
    """Yields the results of each agent on a sample, which is made once, and only if it is needed."""
    made: Sample | None = None
    for agent in runner.agents_for(sample):
        if kept is not None and (known := kept_results(runner, agent, sample, kept)):
            yield agent, [Result.from_json(each) for each in known]
            continue
        made = made or benchmark.make(sample)
        results = runner.run(agent, benchmark, sample, made)
        if kept is not None:
            keep_results(runner, agent, sample, kept, [result.to_json() for result in results])
        yield agent, results


def kept_results(
    runner: ToolboxRunner, agent: str, sample: BenchmarkSample, kept: PartialResults
) -> list[dict[str, Any]]:
    """Returns the kept results of a work item in JSON types; none unless all of them are there."""
    found = [kept.get(key) for key in runner.keys(agent, sample)]
    return [] if None in found else found


def keep_results(
    runner: ToolboxRunner,
    agent: str,
    sample: BenchmarkSample,
    kept: PartialResults,
    results: Sequence[dict[str, Any]],
) -> None:
    """Keeps the results of a work item in JSON types, except those that were kept before."""
    for key, result in zip(runner.keys(agent, sample), results, strict=True):
        if kept.get(key) is None:
            kept.save(key, result)
