"""Judges plans that are stored in files, and verifies stored results by running their plans again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_env.errors import OperaError, ResultsError, SampleError
from opera_env.evaluation.benchmarks import Benchmark, BenchmarkSample
from opera_env.evaluation.benchmarks.benchmark import describe
from opera_env.evaluation.partial import PartialResults
from opera_env.evaluation.results import Result, numbered_lines, spec_digest
from opera_env.evaluation.toolbox_runner import ToolboxRunner
from opera_env.json_files import parse_object
from opera_env.types import Plan, Sample, SampleSpec

TOLERANCES: Mapping[str, float] = {
    "psnr_y": 0.05,
    "psnr_rgb": 0.05,
    "ssim_y": 1e-3,
    "ssim_yiq": 1e-3,
    "lpips": 2e-3,
    "maniqa": 5e-3,
    "clipiqa": 5e-3,
    "musiq": 0.2,
    "niqe32": 0.05,
    "piqe": 0.5,
}
"""How far a metric may move on another machine: what rounding errors do (decision 5)."""

_DEFAULT_TOLERANCE = 0.02
"""Tolerance of R_q and of all other metrics."""

_R_Q = ("r_q", "r_q_seen", "input_r_q", "input_r_q_seen")


@dataclass(frozen=True)
class StoredPlan:
    """A plan of a file.

    Attributes:
        line: Number of the line.
        agent: Who made the plan.
        sample: The sample that it is for.
        plan: The plan.
        answer: What the answer said of which it is the plan; None for other plans.
    """

    line: int
    agent: str
    sample: BenchmarkSample
    plan: Plan
    answer: Mapping[str, Any] | None = None


def read_plans(path: Path, benchmark: Benchmark) -> list[StoredPlan]:
    """Reads plans from JSON lines with the keys ``spec``, ``plan`` and, if there is one, ``agent``.

    Files of results are such files too.

    Args:
        path: The file.
        benchmark: The benchmark, which knows the degraded images of its samples.

    Raises:
        ResultsError: If a line is something else, or there are two plans of one agent for one sample.
        OSError: If the file cannot be read.
    """
    known = {spec_digest(sample.spec): sample for sample in benchmark.samples}
    plans: dict[tuple[str, str], StoredPlan] = {}
    remedy = 'Write {"spec": ..., "plan": [...], "agent": "name"}, one object a line.'
    for number, line in numbered_lines(path):
        row = parse_object(line, f"{path}, line {number}", ResultsError, remedy)
        try:
            spec = SampleSpec.from_json(row.mapping("spec"))
        except SampleError as error:
            row.fail(str(error))
        agent, digest = row.text("agent", path.stem), spec_digest(spec)
        stored = StoredPlan(number, agent, known.get(digest) or describe([spec])[0], row.names("plan"))
        if (other := plans.setdefault((agent, digest), stored)) is not stored:
            row.fail(f"expected one plan of {agent} for a sample, found another in line {other.line}")
    if not plans:
        raise ResultsError(f"{path}: expected plans, found an empty file. {remedy}")
    return list(plans.values())


def judge_plans(
    plans: Sequence[StoredPlan],
    path: Path,
    benchmark: Benchmark,
    runner: ToolboxRunner,
    kept: PartialResults | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """Judges stored plans; the arguments are those of :func:`opera_env.evaluation.evaluate.evaluate`.

    Raises:
        ResultsError: If a plan has a tool that the toolbox does not have.
        SampleError: If a sample cannot be made.
    """
    for stored in plans:
        if unknown := [name for name in stored.plan if name not in runner.toolbox]:
            raise ResultsError(
                f"{path}, line {stored.line}: expected tools of {runner.name}, found {unknown[0]!r}: name "
                "the toolbox that the plans are for with --toolboxes."
            )
    results: dict[int, Result] = {}
    for group in _by_sample(plans).values():
        made: Sample | None = None
        for stored in group:
            said = "" if stored.answer is None else json.dumps(stored.answer, sort_keys=True)
            key = f"{runner.key(stored.agent, stored.sample)} {' '.join(stored.plan)}{said}"
            known = None if kept is None else kept.get(key)
            if known is None:
                made = made or benchmark.make(stored.sample)
                result = runner.judge(
                    stored.agent, stored.plan, benchmark, stored.sample, made, answer=stored.answer
                )
                if kept is not None:
                    kept.save(key, result.to_json())
            else:
                result = Result.from_json(known)
            results[stored.line] = result
            progress(len(results), len(plans))
    return [results[line] for line in sorted(results)]


def _by_sample(plans: Sequence[StoredPlan]) -> dict[str, list[StoredPlan]]:
    groups: dict[str, list[StoredPlan]] = {}
    for stored in plans:
        groups.setdefault(spec_digest(stored.sample.spec), []).append(stored)
    return groups


@dataclass(frozen=True)
class Finding:
    """Something that is not as a stored result says.

    Attributes:
        line: Number of its line.
        what: What has moved, in words.
    """

    line: int
    what: str


def reverify(
    results: Sequence[tuple[int, Result]],
    benchmark: Benchmark,
    runners: Sequence[ToolboxRunner],
    tolerance: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Runs the plans of results again, and returns what has moved.

    Args:
        results: The results with the numbers of their lines.
        benchmark: Their benchmark.
        runners: The toolboxes that they may have been made with.
        tolerance: How far a figure may move; by default :data:`TOLERANCES`.
        progress: Called with the number of results verified and in all.
    """
    runner_of = {runner.toolbox.fingerprint: runner for runner in runners}
    groups: dict[str, list[tuple[int, Result]]] = {}
    for number, result in results:
        groups.setdefault(spec_digest(result.spec), []).append((number, result))
    findings: list[Finding] = []
    done = 0
    for group in groups.values():
        for number, result in group:
            runner = runner_of.get(result.fingerprint)
            found = (
                [f"made with {result.toolbox} {result.fingerprint}, which is not here"]
                if runner is None
                else list(_differences(result, benchmark, runner, tolerance))
            )
            findings += [Finding(number, what) for what in found]
            done += 1
            progress(done, len(results))
    return sorted(findings, key=lambda finding: finding.line)


def _differences(
    result: Result, benchmark: Benchmark, runner: ToolboxRunner, tolerance: float | None
) -> Iterator[str]:
    """Runs the plan of one result, and yields what differs."""
    sample = BenchmarkSample(result.spec, result.group, result.combination, result.input)
    (described,) = describe([result.spec], sample.combination)
    if (described.group, described.combination) != (sample.group, sample.combination):
        yield f"combination: {sample.combination} in the file, {described.combination} found"
    try:
        made = benchmark.make(sample)
        again = runner.judge(result.agent, result.plan, benchmark, sample, made)
    except OperaError as error:
        yield str(error)
        return
    if again.reference != result.reference:
        yield "the reference is another image"
    yield from (f"{name}: not computed here ({why})" for name, why in _unverified(result, again))
    stored, found = (_figures(each) for each in (result, again))
    for name in stored.keys() & found.keys():
        allowed = TOLERANCES.get(name, _DEFAULT_TOLERANCE) if tolerance is None else tolerance
        if not abs(stored[name] - found[name]) <= allowed:
            yield f"{name}: {stored[name]:.6g} in the file, {found[name]:.6g} found"


def _unverified(result: Result, again: Result) -> Iterator[tuple[str, str]]:
    for name in result.metrics.keys() - again.metrics.keys():
        yield name, again.missing.get(name, "it is not among the metrics of the rewards and protocols")


def _figures(result: Result) -> dict[str, float]:
    return dict(result.metrics) | {name: getattr(result, name) for name in _R_Q}
