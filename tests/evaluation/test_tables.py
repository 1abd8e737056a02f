"""Tables of results in all formats, with published rows beside."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO

import pytest

from opera_env.evaluation.results import Result
from opera_env.evaluation.summary import Summary, summarise_results
from opera_env.evaluation.table_formats import to_csv, to_json, to_latex, to_markdown, to_rich
from opera_env.evaluation.tables import make_tables, reward_table, scope_table


@pytest.fixture(scope="module")
def summary(results: list[Result]) -> Summary:
    return summarise_results(results)


def test_there_are_tables_of_rewards_groups_combinations_and_differences(summary: Summary) -> None:
    titles = [table.title for table in make_tables(summary)]
    assert titles == [
        "groups-abc: R_q",
        "groups-abc: group A, protocol opera",
        "groups-abc: group B, protocol opera",
        "groups-abc: group C, protocol opera",
        "untouched by combination",
        "blur by combination",
        "enlarge by combination",
        "paired differences to untouched",
    ]
    for table in make_tables(summary):
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_protocol_without_a_column_has_no_table_of_it(results: list[Result]) -> None:
    changed = [
        replace(row, metrics={"piqe": 30.0}, missing={"psnr_y": "no reference"}) for row in results[:32]
    ]
    summary = summarise_results(changed)
    titles = [table.title for table in make_tables(summary)]
    assert titles == ["groups-abc: R_q", "untouched by combination"]
    assert "no PSNR: no reference" in reward_table(summary).notes


def test_tokens_have_columns_if_an_agent_reports_them(results: list[Result], summary: Summary) -> None:
    assert "written" not in reward_table(summary).columns
    counts = {"prompt_tokens": 500, "completion_tokens": 40}
    counted = [replace(row, answer=counts) if row.agent == "blur" else row for row in results]
    table = reward_table(summarise_results(counted))
    rows = {row[0]: dict(zip(table.columns[1:], row[1:], strict=True)) for row in table.rows}
    assert (rows["blur"]["tokens read"], rows["blur"]["written"]) == ("500", "40")
    assert (rows["enlarge"]["tokens read"], rows["enlarge"]["written"]) == ("", "")
    entries = json.loads(to_json(summarise_results(counted)))["entries"]
    assert [entry["completion_tokens"] for entry in entries] == [None, 40.0, None]
    counted[-1 - 32] = results[-1 - 32]  # one answer of blur without
    assert "written" not in reward_table(summarise_results(counted)).columns


def test_published_rows_are_marked(summary: Summary) -> None:
    table = scope_table(summary, "A")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["OPERA, full (published)"] == ("24.81", "0.77")
    assert rows["4KAgent (published)"] == ("21.48", "0.67")
    assert "published: arXiv:2605.22104, table 1" in table.notes
    assert "[" in rows["blur"][0]


def test_published_rows_of_another_protocol_are_not_shown(results: list[Result]) -> None:
    table = scope_table(summarise_results(results, "agenticir"), "A")
    assert not any("published" in row[0] for row in table.rows)
    assert "published rows are under the protocol opera, and not shown here" in table.notes


def test_the_reduced_reward_is_shown_beside_a_reward_that_does_not_judge(results: list[Result]) -> None:
    summary = summarise_results([replace(row, reward="other") for row in results])
    assert "gap (95 %)" in reward_table(summary).columns
    names = [row[0] for row in scope_table(summary, "B").rows]
    assert "OPERA, planning, CLIP-IQA and MUSIQ only (published)" in names


def test_toolboxes_are_named_if_there_are_several(results: list[Result]) -> None:
    both = [*results, *(replace(row, toolbox="other") for row in results)]
    names = [row[0] for row in reward_table(summarise_results(both)).rows]
    assert names[0] == "untouched, tiny" and names[3] == "untouched, other"


def test_markdown_has_every_row(summary: Summary) -> None:
    text = to_markdown(summary)
    assert "**groups-abc: group C, protocol opera**" in text
    assert "| OPERA, planning (published) | 22.32 | 0.71 |" in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_latex_is_escaped(results: list[Result]) -> None:
    text = to_latex(summarise_results([replace(row, agent=f"50%_{row.agent}") for row in results]))
    assert r"50\%\_blur" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 8
    for line in text.splitlines():
        assert "_" not in line.replace(r"\_", "")


def test_csv_has_every_number_with_its_interval(summary: Summary) -> None:
    rows = list(csv.DictReader(StringIO(to_csv(summary))))
    (mean,) = [
        row for row in rows if (row["agent"], row["scope"], row["value"]) == ("blur", "rain+haze", "psnr_y")
    ]
    interval = summary.entries[1].means["rain+haze"]["psnr_y"]
    assert (float(mean["mean"]), float(mean["low"])) == (interval.mean, interval.low)
    published = [row for row in rows if row["published"]]
    assert {row["published"] for row in published} == {
        "arXiv:2605.22104, table 1",
        "arXiv:2605.22104, table 8",
    }


def test_json_has_no_nan(results: list[Result]) -> None:
    of_one_image = [row for row in results if row.spec.image == results[0].spec.image]
    data = json.loads(to_json(summarise_results(of_one_image)), parse_constant=pytest.fail)
    assert data["entries"][0]["means"]["all"]["r_q"]["low"] is None


def test_a_terminal_gets_every_cell(summary: Summary) -> None:
    table = reward_table(summary)
    assert to_rich(table).row_count == len(table.rows)
