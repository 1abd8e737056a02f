"""The page: complete, self-contained, and safe with any names."""

from __future__ import annotations

import re
from dataclasses import replace

from opera_env.evaluation.results import Result
from opera_env.evaluation.summary import summarise_results
from opera_env.report.curves import Curve
from opera_env.report.page import Page, make_page, render_page
from opera_env.report.pictures import Picture, PictureCard
from opera_env.report.plan_statistics import plan_statistics

HOSTILE = "</script><img src=x onerror=alert(1)>"
IMAGE = "data:image/webp;base64,UklGRg=="


def page_of(results: list[Result], focus: str, cards: tuple[PictureCard, ...] = ()) -> Page:
    summary = summarise_results(results)
    labels = {entry.agent: entry for entry in summary.entries}
    statistics = {
        agent: plan_statistics([row for row in results if row.agent == agent], {}) for agent in labels
    }
    curves = [Curve("run", "val/reward", (0, 1), (1.0, 2.0))]
    return make_page(summary, labels, statistics, focus, cards, curves, results, "Title")


def own_text(html: str) -> str:
    """Returns the page without plotly's own code, which names addresses that it does not load."""
    return re.sub(r"<script>\s*/\*\*\s*\* plotly\.js.*?</script>", "", html, flags=re.DOTALL)


def test_names_and_answers_are_escaped(result: Result) -> None:
    rows = [replace(result, agent=agent, plan=(HOSTILE,)) for agent in ("other", HOSTILE)]
    picture = Picture(HOSTILE, IMAGE, plan=(HOSTILE,), r_q=1.0, answer=HOSTILE)
    html = own_text(render_page(page_of(rows, HOSTILE, (PictureCard(HOSTILE, 0.5, (picture,), 0, 64),))))
    assert HOSTILE not in html
    assert "&lt;/script&gt;" in html


def test_the_page_needs_no_network(result: Result) -> None:
    html = own_text(render_page(page_of([result], "mine")))
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)[^\"']+", html)
    assert "@import" not in html and "url(" not in html


def test_the_tables_hold_the_values_they_are_sorted_by(result: Result) -> None:
    rows = [result, replace(result, agent="other", r_q=7.5)]
    page = page_of(rows, "other")
    overall = page.tables[0]
    assert overall.columns[:2] == ("agent", "R_q")
    assert [row.cells[1].value for row in overall.rows] == ["6.0", "7.5"]
    assert [row.is_focus for row in overall.rows] == [False, True]
    assert [name for name, _ in page.sections] == ["results", "cost", "plans", "curves"]


def test_a_page_of_training_runs_has_no_tables() -> None:
    page = make_page(None, {}, {}, "", (), [Curve("run", "loss", (0, 1), (2.0, 1.0))], (), "Runs")
    html = own_text(render_page(page))
    assert "<h2>Training curves</h2>" in html and "<h2>Results</h2>" not in html
