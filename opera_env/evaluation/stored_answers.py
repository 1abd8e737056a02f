"""Scores answers in words that are stored in files, without the model that wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from opera_env.answer import AnswerGrammar
from opera_env.errors import ResultsError, SampleError
from opera_env.evaluation.benchmarks import Benchmark
from opera_env.evaluation.benchmarks.benchmark import describe
from opera_env.evaluation.results import TOKEN_KEYS, Result, answer_json, numbered_lines, spec_digest
from opera_env.evaluation.stored_plans import StoredPlan
from opera_env.json_files import JsonObject, parse_object
from opera_env.reward import f1_score
from opera_env.types import SampleSpec, TokenCount

_MOST_TOKENS = 1 << 40


@dataclass(frozen=True)
class AnswerSummary:
    """What the answers of an agent are like, beside the quality that their plans reach.

    Attributes:
        toolbox: Name of the toolbox.
        agent: Name of the agent.
        count: Number of answers.
        errors: Number of answers that cannot be parsed.
        r_d: Mean F1 score of the degradations that answers name; 0 for those that cannot be parsed. None if
            no answer names degradations, or the true ones are not known.
    """

    toolbox: str
    agent: str
    count: int
    errors: int
    r_d: float | None

    def __str__(self) -> str:
        r_d = "" if self.r_d is None else f", R_d {self.r_d:.2f}"
        return f"answers of {self.agent} ({self.toolbox}): {self.count}, not parsed {self.errors}{r_d}"


def read_answers(path: Path, benchmark: Benchmark, grammar: AnswerGrammar) -> list[StoredPlan]:
    """Reads answers from JSON lines with the keys ``spec``, ``answer`` and, if there is one, ``agent``.

    ``prompt_tokens`` and ``completion_tokens``, which an answer has cost, may be there as well.

    An answer that cannot be parsed has the empty plan and an error, as that of an agent has. Files of
    results are such files too: their answers were parsed when they were written, and an agent that says
    nothing has its plan.

    Args:
        path: The file.
        benchmark: The benchmark, which knows the degraded images of its samples.
        grammar: Parses the answers.

    Raises:
        ResultsError: If a line is something else, or there are two answers of one agent for one sample.
        OSError: If the file cannot be read.
    """
    known = {spec_digest(sample.spec): sample for sample in benchmark.samples}
    answers: dict[tuple[str, str], StoredPlan] = {}
    remedy = 'Write {"spec": ..., "answer": "<think>...", "agent": "name"}, one object a line.'
    for number, line in numbered_lines(path):
        row = parse_object(line, f"{path}, line {number}", ResultsError, remedy)
        try:
            spec = SampleSpec.from_json(row.mapping("spec"))
        except SampleError as error:
            row.fail(str(error))
        agent, digest = row.text("agent", path.stem), spec_digest(spec)
        sample = known.get(digest) or describe([spec])[0]
        said = row.data.get("answer")
        if isinstance(said, Mapping) or (said is None and "plan" in row.data):
            stored = StoredPlan(number, agent, sample, row.names("plan"), said)
        else:
            decision = replace(grammar.parse(row.text("answer")), tokens=_read_tokens(row))
            stored = StoredPlan(number, agent, sample, decision.plan, answer_json(decision))
        if (other := answers.setdefault((agent, digest), stored)) is not stored:
            row.fail(f"expected one answer of {agent} for a sample, found another in line {other.line}")
    if not answers:
        raise ResultsError(f"{path}: expected answers, found an empty file. {remedy}")
    return list(answers.values())


def _read_tokens(row: JsonObject) -> TokenCount | None:
    if not any(key in row.data for key in TOKEN_KEYS):
        return None
    return TokenCount(*(row.integer(key, 0, _MOST_TOKENS) for key in TOKEN_KEYS))


def summarise_answers(results: Sequence[Result]) -> list[AnswerSummary]:
    """Summarises the answers of each agent that has any."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.answer is not None:
            groups.setdefault((result.toolbox, result.agent), []).append(result)
    return [_summarise(toolbox, agent, rows) for (toolbox, agent), rows in groups.items()]


def _summarise(toolbox: str, agent: str, rows: Sequence[Result]) -> AnswerSummary:
    errors = sum(bool(row.answer and row.answer.get("error")) for row in rows)
    scores = [
        score for row in rows if row.spec.recipe and (score := _r_d(row)) is not None
    ]  # a recipe that is not known is empty
    r_d = float(np.mean(scores)) if scores else None
    return AnswerSummary(toolbox, agent, len(rows), errors, r_d)


def _r_d(row: Result) -> float | None:
    answer = row.answer or {}
    if answer.get("error"):
        return 0.0
    if answer.get("degradations") is None:
        return None
    return f1_score(frozenset(answer["degradations"]), frozenset(row.spec.recipe))
