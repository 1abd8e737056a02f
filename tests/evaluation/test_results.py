"""Lines of results: they come back as they were, and a changed digit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from opera_env.errors import ResultsError
from opera_env.evaluation.results import (
    Result,
    by_entry,
    check_comparable,
    format_line,
    numbered_results,
    parse_line,
    read_results,
)


def test_a_line_is_read_as_it_was_written(results: list[Result]) -> None:
    for result in results:
        assert parse_line(format_line(result), "file, line 1") == result


def test_files_hold_a_result_a_line(results: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(format_line(result) + "\n" for result in results))
    assert read_results(path) == results
    assert [number for number, _ in numbered_results(path)] == list(range(1, len(results) + 1))


@pytest.mark.parametrize("key", ["r_q", "input_r_q", "benchmark", "agent", "plan", "spec", "cost"])
def test_a_changed_value_is_named(results: list[Result], key: str, tmp_path: Path) -> None:
    lines = [format_line(result) for result in results[:3]]
    data = json.loads(lines[1])
    other = json.loads(format_line(results[-1]))
    other |= {"benchmark": "other", "cost": other["cost"] | {"seconds": 1234.5}}
    assert data[key] != other[key]
    lines[1] = json.dumps(data | {key: other[key]})
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(ResultsError, match=r"results.jsonl, line 2: expected the line as it was written"):
        read_results(path)


def test_a_changed_digit_is_named(results: list[Result], tmp_path: Path) -> None:
    line = format_line(results[0])
    seconds = json.loads(line)["cost"]["seconds"]
    changed = line.replace(repr(seconds), repr(seconds + 1.0))
    assert changed != line
    with pytest.raises(ResultsError, match="a changed line"):
        parse_line(changed, "file, line 1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected results, found an empty file"),
        ("{", "expected JSON"),
        ("[]", "expected an object"),
        ('{"benchmark": 1}', "expected 'benchmark' to be a text"),
    ],
)
def test_other_files_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(ResultsError, match=says):
        read_results(path)


def test_a_table_holds_one_benchmark_and_the_same_samples(results: list[Result]) -> None:
    check_comparable(results)
    with pytest.raises(ResultsError, match="expected results, found none"):
        check_comparable([])
    with pytest.raises(ResultsError, match="results of one benchmark"):
        check_comparable([*results, replace(results[0], benchmark="other", agent="new")])
    with pytest.raises(ResultsError, match="one result a sample"):
        check_comparable([*results, results[0]])
    with pytest.raises(ResultsError, match="results of the same samples"):
        check_comparable(results[:-1])


def test_entries_have_their_samples_in_one_order(results: list[Result]) -> None:
    entries = by_entry([*results[:32], *reversed(results[32:])])
    specs = [[result.spec for result in rows] for rows in entries.values()]
    assert specs[0] == specs[1] == specs[2]
