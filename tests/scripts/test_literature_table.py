"""The tables and the figure of the agents of the literature, on results of known numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table

from opera_env.errors import ResultsError
from opera_env.evaluation.records import Cost
from opera_env.evaluation.results import Result, format_line, read_results
from opera_env.types import SampleSpec
from scripts.literature_table import LiteratureConfig, report, select, tables, tools_run

QUALITY = {"planner-blind": 6.0, "greedy-blind": 5.5, "qagent-blind": 5.0, "beam-blind": 5.75}
PRICE = {"planner-blind": 0, "greedy-blind": 4, "qagent-blind": 3, "beam-blind": 8}


def make_rows(budget: int | None, toolbox: str = "lite") -> Iterator[Result]:
    """Every agent gains 0.25 for each doubling of the budget, but the planner."""
    for agent, quality in QUALITY.items():
        for index in range(4):
            bonus = 0.0 if agent == "planner-blind" or budget is None else 0.125 * budget
            yield Result(
                benchmark="OPERA-BSDS-v1",
                group="A",
                combination=("rain+haze", "noise+jpeg")[index % 2],
                spec=SampleSpec("val", index, image=f"{index}.png"),
                input="0" * 64,
                reference="1" * 64,
                toolbox=toolbox,
                signature="s",
                fingerprint="f",
                agent=agent,
                plan=("a", "b"),
                answer=None,
                metrics={"psnr_y": 20.0 + index},
                missing={},
                reward="lite",
                judge="lite",
                r_q=quality + bonus + 0.1 * index,
                r_q_seen=quality,
                input_r_q=4.0,
                input_r_q_seen=4.0,
                cost=Cost(PRICE[agent], PRICE[agent], 0.5),
                settings={} if budget is None else {"budget": budget},
                versions={},
            )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    paths: list[Path] = []
    for budget in (None, 2, 4):
        paths.append(tmp_path / f"{budget}.jsonl")
        rows = [*make_rows(budget), *make_rows(budget, "lite-cotrained")]
        paths[-1].write_text("".join(format_line(row) + "\n" for row in rows))
    return tuple(paths)


def cells(table: Table) -> dict[str, list[str]]:
    columns = [list(map(str, column.cells)) for column in table.columns]
    return {row[0]: list(row[1:]) for row in zip(*columns, strict=True)}


def test_every_toolbox_has_its_tables(files: tuple[Path, ...]) -> None:
    results = [result for path in files for result in read_results(path)]
    found = list(tables(LiteratureConfig(files), results))
    assert len(found) == 6
    main, budgets, assumptions = map(cells, found[:3])
    assert next(iter(main)) == "`planner-blind`"
    assert main["`beam-blind`"] == ["5.90 [5.80, 6.00]", "21.50", "2.0", "8.0", "8.0", "0.50"]
    assert budgets["`greedy-blind`"] == ["+0.25 [0.25, 0.25]", "+0.00 [0.00, 0.00]"]
    assert "`planner-blind`" not in budgets
    assert {row[-1] for row in assumptions.values()} == {"+0.50 [0.50, 0.50]", "+0.25 [0.25, 0.25]"}
    assert len(assumptions) == 2, "pairs of which an agent is missing are left out"


def test_the_budget_chooses_the_results_of_the_table(files: tuple[Path, ...]) -> None:
    results = [result for path in files for result in read_results(path)]
    assert {row.budget for row in select(results, "lite", 4)} == {4}
    main = cells(next(tables(LiteratureConfig(files, budget=4), results)))
    assert main["`greedy-blind`"][0].startswith("6.15 ")
    with pytest.raises(ResultsError, match=r"with the budget 8, found .*'2', '4', 'None'.*--budget"):
        list(tables(LiteratureConfig(files, budget=8), results))


def test_the_tools_of_the_plan_count_once() -> None:
    row = next(make_rows(None))
    assert tools_run(row) == 2, "an agent that decides without running anything runs its plan in the end"
    assert tools_run(replace(row, cost=Cost(5, 7, 0.1))) == 7


def test_results_of_other_samples_are_an_error() -> None:
    rows = [row for row in make_rows(2) if row.agent != "greedy-blind" or row.spec.index]
    with pytest.raises(ResultsError, match="expected results of the same samples"):
        list(tables(LiteratureConfig((), budget=2), rows))


def test_tables_are_printed_and_a_figure_is_written(
    files: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(LiteratureConfig(files, figure=tmp_path / "figure.png"))
    printed = capsys.readouterr().out
    assert printed.count("| `greedy-blind`") >= 4 and "lite-cotrained, budget none" in printed
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size == (1690, 585)
        assert len(set(image.convert("RGB").get_flattened_data())) > 100
