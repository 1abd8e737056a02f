"""Stored answers in words are parsed and judged as those of agents, without the model that wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from opera_env.answer import AnswerGrammar
from opera_env.errors import ResultsError
from opera_env.evaluation.benchmarks import Benchmark
from opera_env.evaluation.results import Result, format_line
from opera_env.evaluation.stored_answers import read_answers, summarise_answers
from opera_env.evaluation.stored_plans import judge_plans
from opera_env.evaluation.summary import summarise_results
from opera_env.evaluation.toolbox_runner import ToolboxRunner
from opera_env.reward import f1_score
from opera_env.tools import Toolbox
from opera_env.types import Decision

Runner = Callable[..., ToolboxRunner]


@pytest.fixture
def grammar(toolbox: Toolbox, benchmark: Benchmark) -> AnswerGrammar:
    return AnswerGrammar(toolbox.names, benchmark.source.degradations, 6)


@pytest.fixture
def write(tmp_path: Path, benchmark: Benchmark) -> Callable[..., Path]:
    """``write("text", ...)`` writes an answer for each of the first samples."""

    def write_answers(*texts: object, **fields: object) -> Path:
        path = tmp_path / "answers.jsonl"
        rows = [
            {"spec": sample.spec.to_json(), "answer": text} | fields
            for sample, text in zip(benchmark.samples, texts, strict=False)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return write_answers


def test_answers_are_judged_as_their_plans(
    results: list[Result],
    benchmark: Benchmark,
    grammar: AnswerGrammar,
    make_runner: Runner,
    write: Callable[..., Path],
) -> None:
    decision = Decision(("tiny.blur",), frozenset({"noise"}), "Grainy.")
    path = write(grammar.format(decision), "I would blur it.", agent="mine")
    good, bad = judge_plans(read_answers(path, benchmark, grammar), path, benchmark, make_runner(()))
    by_agent = {row.agent: row for row in results if row.spec == good.spec}
    assert (good.agent, good.plan, good.r_q) == ("mine", ("tiny.blur",), by_agent["blur"].r_q)
    assert good.answer == {"reasoning": "Grainy.", "degradations": ["noise"], "error": None}
    assert bad.plan == () and bad.answer is not None and bad.answer["error"].startswith("expected <think>")
    assert Result.from_json(json.loads(format_line(good))).answer == good.answer

    summary, other = summarise_answers([good, bad, *results])
    r_d = f1_score(frozenset({"noise"}), frozenset(good.spec.recipe)) / 2
    assert (summary.agent, summary.count, summary.errors, summary.r_d) == ("mine", 2, 1, r_d)
    assert (other.agent, other.errors, other.r_d) == ("blur", 0, None), "it names no degradations"
    assert str(summary) == f"answers of mine (tiny): 2, not parsed 1, R_d {r_d:.2f}"


def test_a_file_of_results_is_a_file_of_answers(
    benchmark: Benchmark,
    grammar: AnswerGrammar,
    make_runner: Runner,
    write: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = write(grammar.format(Decision(("tiny.darken",), frozenset({"haze"}), "Hm.")))
    first = judge_plans(read_answers(path, benchmark, grammar), path, benchmark, make_runner(()))
    again = tmp_path / "results.jsonl"
    again.write_text("\n".join(map(format_line, first)))
    second = judge_plans(read_answers(again, benchmark, grammar), again, benchmark, make_runner(()))
    assert [(row.plan, row.answer, row.r_q) for row in second] == [
        (row.plan, row.answer, row.r_q) for row in first
    ]


def test_agents_that_say_nothing_have_their_plans(
    results: list[Result], benchmark: Benchmark, grammar: AnswerGrammar, tmp_path: Path
) -> None:
    """As one that calls functions at a server which reports no tokens."""
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(map(format_line, results)))
    stored = read_answers(path, benchmark, grammar)
    assert [(each.agent, each.plan, each.answer) for each in stored] == [
        (row.agent, row.plan, row.answer) for row in results
    ]
    assert {each.agent for each in stored if each.answer is None} == {"untouched", "enlarge"}


def test_tokens_of_answers_are_kept(
    benchmark: Benchmark,
    grammar: AnswerGrammar,
    make_runner: Runner,
    write: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Also by files of results of agents that report them."""
    text = grammar.format(Decision(("tiny.darken",), frozenset({"haze"}), "Hm."))
    path = write(text, text, prompt_tokens=500, completion_tokens=40)
    judged = judge_plans(read_answers(path, benchmark, grammar), path, benchmark, make_runner(()))
    again = tmp_path / "results.jsonl"
    again.write_text("\n".join(map(format_line, judged)))
    for stored in read_answers(again, benchmark, grammar):
        assert stored.answer is not None
        assert (stored.answer["prompt_tokens"], stored.answer["completion_tokens"]) == (500, 40)
    (entry,) = summarise_results(judged).entries
    assert (entry.prompt_tokens, entry.completion_tokens) == (500.0, 40.0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt_tokens": 500}, "line 1: expected the key 'completion_tokens'"),
        ({"prompt_tokens": -1, "completion_tokens": 3}, "expected 'prompt_tokens' to be a whole number"),
        ({"answer": 3}, "line 1: expected 'answer' to be a text"),
        ({"spec": {"index": 0}}, "line 1: not a sample specification"),
        ({"agent": []}, "line 1: expected 'agent' to be a text"),
    ],
)
def test_lines_that_are_no_answers_are_named(
    fields: dict[str, object],
    says: str,
    benchmark: Benchmark,
    grammar: AnswerGrammar,
    write: Callable[..., Path],
) -> None:
    with pytest.raises(ResultsError, match=says):
        read_answers(write("Hm.", **fields), benchmark, grammar)


def test_two_answers_of_one_agent_for_one_sample_are_an_error(
    benchmark: Benchmark, grammar: AnswerGrammar, write: Callable[..., Path]
) -> None:
    path = write("Hm.")
    path.write_text(f"{path.read_text()}\n{path.read_text()}")
    with pytest.raises(ResultsError, match=r"line 2: expected one answer of answers .* in line 1"):
        read_answers(path, benchmark, grammar)
    path.write_text("")
    with pytest.raises(ResultsError, match="expected answers, found an empty file"):
        read_answers(path, benchmark, grammar)
