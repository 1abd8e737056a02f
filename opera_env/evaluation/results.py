"""Results of agents, one line of JSON for each toolbox, agent and sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from opera_env.errors import OperaError, ResultsError
from opera_env.evaluation.records import Cost
from opera_env.files import digest_text
from opera_env.json_files import JsonObject, parse_object
from opera_env.reward import REWARD_PRESETS
from opera_env.types import Decision, Plan, SampleSpec

SINGLE_PREFIX = "single:"
"""Begins the names of agents that plan one tool for every image. They may have results on the samples that
their tool is for only."""

TOKEN_KEYS = ("prompt_tokens", "completion_tokens")
"""Keys of answers for the tokens that a language model has read and written."""

Entry = tuple[str, str, str, int | None]
"""Toolbox, agent, the reward that the agent saw, and its budget."""

_REMEDY = "Take the file as `opera-env evaluate` has written it, or evaluate again."


@dataclass(frozen=True)
class Result:
    """The result of one agent with one toolbox on one sample.

    Attributes:
        benchmark: Name of the benchmark, with its version if it has one.
        group: Group of the sample in the tables; empty if it has none.
        combination: Degradations of the sample joined by "+", as far as they are known.
        spec: The specification of the sample.
        input: Digest of the degraded image, as it was restored.
        reference: Digest of the reference; None if there is none.
        toolbox: The toolbox as it was named.
        signature: Signature of the toolbox.
        fingerprint: Fingerprint of the toolbox.
        agent: Name of the agent.
        plan: The plan that it chose.
        answer: What a model that answers in words has said: ``reasoning``, ``degradations`` and ``error``,
            as far as it gives them, and ``prompt_tokens`` and ``completion_tokens`` if they are known; None
            for other agents.
        metrics: Metric values by name.
        missing: Why other columns of the protocols could not be computed.
        reward: The reward that agents and searches saw, by its name or as "module:attribute".
        judge: The reward that judges, in the same way.
        r_q: R_q of the result by the judge.
        r_q_seen: R_q of the result by the reward.
        input_r_q: R_q of the input by the judge.
        input_r_q_seen: R_q of the input by the reward.
        cost: What the decision has cost.
        settings: Settings of the agent, by name; ``agent_content`` is a digest of the files that it was
            loaded from, if any.
        versions: Versions of the packages that results depend on.
    """

    benchmark: str
    group: str
    combination: str
    spec: SampleSpec
    input: str
    reference: str | None
    toolbox: str
    signature: str
    fingerprint: str
    agent: str
    plan: Plan
    answer: Mapping[str, Any] | None
    metrics: Mapping[str, float]
    missing: Mapping[str, str]
    reward: str
    judge: str
    r_q: float
    r_q_seen: float
    input_r_q: float
    input_r_q_seen: float
    cost: Cost
    settings: Mapping[str, Any]
    versions: Mapping[str, str | None]

    @property
    def entry(self) -> Entry:
        """Toolbox, agent, reward and budget: the row of a table that this result belongs to."""
        return self.toolbox, self.agent, self.reward, self.budget

    @property
    def budget(self) -> int | None:
        """Number of tools that the agent was allowed to run before it decided; None for no limit."""
        return self.settings.get("budget")

    @property
    def gain(self) -> float:
        """R_q of the result less that of the input, by the judge."""
        return self.r_q - self.input_r_q

    @property
    def gap(self) -> float:
        """The gain by the reward that the agent saw, less the gain by the judge."""
        return (self.r_q_seen - self.input_r_q_seen) - self.gain

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types; :meth:`from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Returns the result that :meth:`to_json` has written."""
        return cls(
            **{field.name: data[field.name] for field in fields(cls)}
            | {
                "spec": SampleSpec.from_json(data["spec"]),
                "plan": tuple(data["plan"]),
                "cost": Cost(**data["cost"]),
            }
        )


def answer_json(decision: Decision) -> dict[str, Any]:
    """Returns what a decision says in words, in the form in which results keep it."""
    predicted, tokens = decision.degradations, decision.tokens
    said = {
        "reasoning": decision.reasoning,
        "degradations": None if predicted is None else sorted(predicted),
        "error": None if decision.error is None else str(decision.error),
    }
    counts = (
        {} if tokens is None else dict(zip(TOKEN_KEYS, (tokens.prompt, tokens.completion), strict=True))
    )
    return said | counts


def check_reward(named: str, given: str | None, option: str, where: str) -> None:
    """Checks that a reward which a file names is a preset, or was given by the user as well.

    Args:
        named: The name in the file; "module:attribute" would run the code of the module.
        given: The user's own option.
        option: Name of the option.
        where: The file, for the error.

    Raises:
        ResultsError: If it is neither.
    """
    if named not in REWARD_PRESETS and named != given:
        raise ResultsError(
            f"{where}: made with the {option} {named!r}, whose code runs only if you name it: give "
            f"--{option} {named} as well."
        )


def format_line(result: Result) -> str:
    """Returns the line of a result: JSON whose last key is a digest of the others."""
    text = json.dumps(result.to_json())
    return f'{text[:-1]}, "digest": "{digest_text(text)}"}}'


def parse_line(line: str, label: str) -> Result:
    """Returns the result of a line.

    Args:
        line: The line.
        label: The file and the number of the line, with which messages begin.

    Raises:
        ResultsError: If the line is not a result, or has been changed since it was written.
    """
    row = parse_object(line, label, ResultsError, _REMEDY)
    result = _checked_result(row)
    if format_line(result) != line.strip():
        row.fail(
            f"expected the line as it was written, with the digest {row.text('digest')!r}, found a changed "
            "line"
        )
    return result


def _checked_result(row: JsonObject) -> Result:
    """Returns the result of a JSON object whose values have the right types."""
    for key in ("benchmark", "group", "combination", "input", "toolbox", "signature", "fingerprint"):
        row.text(key)
    for key in ("agent", "reward", "judge"):
        row.text(key)
    for key in ("r_q", "r_q_seen", "input_r_q", "input_r_q_seen"):
        row.number(key)
    row.names("plan")
    for key in ("settings", "versions", "missing"):
        row.mapping(key)
    metrics, cost = row.object("metrics"), row.object("cost")
    for name in metrics.data:
        metrics.number(name)
    for name in ("images_scored", "tools_run", "seconds"):
        cost.number(name)
    try:
        return Result.from_json(row.data)
    except (OperaError, KeyError, TypeError) as error:
        row.fail(f"expected a result, found something else ({error})")


def read_results(path: Path) -> list[Result]:
    """Reads a file of results.

    Raises:
        ResultsError: If a line is no result or was changed, or there is none.
        OSError: If the file cannot be read.
    """
    return [result for _, result in numbered_results(path)]


def numbered_results(path: Path) -> list[tuple[int, Result]]:
    """Reads a file of results with the numbers of their lines; see :func:`read_results`."""
    results = [
        (number, parse_line(line, f"{path}, line {number}")) for number, line in numbered_lines(path)
    ]
    if not results:
        raise ResultsError(f"{path}: expected results, found an empty file. {_REMEDY}")
    return results


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file that are not blank, with their numbers."""
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if line.strip():
            yield number, line


def check_comparable(results: Sequence[Result]) -> None:
    """Checks that results can stand in one table.

    Raises:
        ResultsError: If there are none, they are of several benchmarks or judges, an entry has two results
            of one sample, or entries have results of different samples.
    """
    if not results:
        raise ResultsError(
            "expected results, found none: name agents and toolboxes that suit the benchmark."
        )
    for what in ("benchmark", "judge"):
        found = sorted({getattr(result, what) for result in results})
        if len(found) > 1:
            raise ResultsError(
                f"expected results of one {what} in a table, found {', '.join(found)}: make one of each."
            )
    samples: dict[Entry, list[str]] = {}
    for result in results:
        samples.setdefault(result.entry, []).append(spec_digest(result.spec))
    compared = {entry: keys for entry, keys in samples.items() if not entry[1].startswith(SINGLE_PREFIX)}
    first = next(iter(compared.values()), [])
    for entry, keys in samples.items():
        toolbox, agent, *_ = entry
        if len(set(keys)) < len(keys):
            raise ResultsError(
                f"{agent} with {toolbox}: expected one result a sample, found several: leave a file out."
            )
        if entry in compared and set(keys) != set(first):
            raise ResultsError(
                f"expected results of the same samples, found {len(first)} and for {agent} with {toolbox} "
                f"{len(keys)} or others: evaluate all on the same samples."
            )


def by_entry(results: Iterable[Result]) -> dict[Entry, list[Result]]:
    """Returns the results of each row of a table, all in the same order of samples."""
    entries: dict[Entry, list[Result]] = {}
    order: dict[str, int] = {}
    for result in results:
        entries.setdefault(result.entry, []).append(result)
        order.setdefault(spec_digest(result.spec), len(order))
    return {
        entry: sorted(rows, key=lambda row: order[spec_digest(row.spec)]) for entry, rows in entries.items()
    }


def spec_digest(spec: SampleSpec) -> str:
    """Returns a digest of a specification, which names the sample in files."""
    return digest_text(json.dumps(spec.to_json()))


def package_versions() -> dict[str, str | None]:
    """Returns the versions of the packages that results depend on; None for one that is not installed."""
    versions: dict[str, str | None] = {}
    for package in ("opera-env", "torch", "numpy", "pyiqa"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
