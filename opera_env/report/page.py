"""The page of a report: tables, figures, images and curves in one HTML file without addresses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from plotly import graph_objects as go
from plotly.offline import get_plotlyjs

from opera_env.evaluation.results import Result
from opera_env.evaluation.stats import ConfidenceInterval, format_interval
from opera_env.evaluation.summary import GAP, NORMALISED, OVERALL, R_Q, EntrySummary, Summary
from opera_env.report.curves import Curve
from opera_env.report.figures import (
    curve_figures,
    length_figure,
    quality_cost_figure,
    transition_figure,
    transition_width,
)
from opera_env.report.pictures import PictureCard
from opera_env.report.plan_statistics import PlanStatistics, Share

_SECTIONS = {
    "results": "Results",
    "cost": "Quality against cost",
    "plans": "Plans",
    "images": "Images",
    "curves": "Training curves",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and what it is sorted by."""

    text: str
    value: str


@dataclass(frozen=True)
class Row:
    """A row of a table; that of the entry in focus is marked."""

    cells: tuple[Cell, ...]
    is_focus: bool


@dataclass(frozen=True)
class PageTable:
    """A table that can be sorted."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class PlanBlock:
    """The plans of one entry."""

    label: str
    is_focus: bool
    order: tuple[Share, ...]
    figure: str
    width: int


@dataclass(frozen=True)
class Page:
    """What the template shows.

    Attributes:
        title: Title of the page.
        subtitle: Number of samples, benchmark, protocol and judge.
        focus: Label of the entry in focus.
        tables: The tables of results.
        table_note: What the tables show.
        notes: Columns that could not be computed, and why.
        cost_figure: Quality against cost.
        length_figure: Plan lengths by number of degradations.
        plans: The plans of each entry.
        cards: Images of chosen samples.
        card_note: Which samples these are.
        curves: Training curves by the name of the scalar.
        footer: Versions and toolboxes.
    """

    title: str
    subtitle: str = ""
    focus: str = ""
    tables: tuple[PageTable, ...] = ()
    table_note: str = ""
    notes: tuple[str, ...] = ()
    cost_figure: str = ""
    length_figure: str = ""
    plans: tuple[PlanBlock, ...] = ()
    cards: tuple[PictureCard, ...] = ()
    card_note: str = ""
    curves: tuple[tuple[str, str], ...] = ()
    footer: str = ""
    sections: tuple[tuple[str, str], ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        shown = {
            "results": self.tables,
            "cost": self.tables,
            "plans": self.tables,
            "images": self.cards,
            "curves": self.curves,
        }
        sections = tuple((name, title) for name, title in _SECTIONS.items() if shown[name])
        object.__setattr__(self, "sections", sections)


def render_page(page: Page) -> str:
    """Returns the HTML of a page.

    All texts are escaped, by the template and by plotly; scripts and styles come from packages only.
    """
    folder = files("opera_env.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((folder / "template.html.jinja").read_text())
    needs_plotly = bool(page.tables or page.curves)
    return template.render(
        page=page,
        style=(folder / "style.css").read_text(),
        script=(folder / "script.js").read_text(),
        plotly=get_plotlyjs() if needs_plotly else "",
    )


def make_page(
    summary: Summary | None,
    labels: Mapping[str, EntrySummary],
    statistics: Mapping[str, PlanStatistics],
    focus: str,
    cards: Sequence[PictureCard],
    curves: Sequence[Curve],
    results: Sequence[Result],
    title: str,
) -> Page:
    """Returns the page of results, of training runs, or of both.

    Args:
        summary: The summary of the results; None without results.
        labels: The entries of the summary by the label that the page gives them.
        statistics: Statistics of their plans, by label.
        focus: Label of the entry in focus.
        cards: Images of chosen samples.
        curves: Curves of training runs.
        results: The results, for the footer.
        title: Title of the page.
    """
    curve_blocks = tuple((tag, _html(figure)) for tag, figure in curve_figures(curves).items())
    if summary is None:
        return Page(title, curves=curve_blocks)
    num_samples = summary.entries[0].samples
    return Page(
        title=title,
        subtitle=f"{num_samples} samples of {summary.benchmark}, protocol {summary.protocol}, "
        f"judged by the reward {summary.judge}",
        focus=focus,
        tables=tuple(_tables(summary, labels, focus)),
        table_note="Intervals are 95 % bootstrap intervals over photographs.",
        notes=tuple(f"{column}: {reason}" for column, reason in summary.missing.items()),
        cost_figure=_html(quality_cost_figure(labels)),
        length_figure=_html(length_figure(statistics)),
        plans=tuple(
            PlanBlock(
                label, label == focus, found.order, _html(transition_figure(found)), transition_width(found)
            )
            for label, found in statistics.items()
        ),
        cards=tuple(cards),
        card_note=f"The samples with the largest regret of {focus}: R_q of the best entry less its own. "
        "The number beside a name is R_q.",
        curves=curve_blocks,
        footer=_footer(results),
    )


def _tables(summary: Summary, labels: Mapping[str, EntrySummary], focus: str) -> list[PageTable]:
    """Returns the table of all entries over all samples, then one of R_q by group and combination."""
    titles = {R_Q: "R_q"}
    if summary.normalised:
        titles[NORMALISED] = "normalised"
    titles |= {column.metric: column.title for column in summary.columns}
    if summary.has_gap:
        titles[GAP] = "gap"
    rows: list[Row] = []
    for label, entry in labels.items():
        means = entry.means[OVERALL]
        cells = [_text(label), *(_interval(means.get(name), name == R_Q) for name in titles)]
        cells += [_number(entry.tools, 1), _number(entry.tools_run, 1), _number(entry.images_scored, 1)]
        cells.append(_number(entry.seconds, 3))
        rows.append(Row(tuple(cells), label == focus))
    costs = ("tools", "tools run", "scored", "s per image")
    tables = [PageTable("All samples", ("agent", *titles.values(), *costs), tuple(rows))]
    scopes = (*summary.groups, *(name for name in summary.combinations if name not in summary.groups))
    if len(scopes) > 1:
        rows = [
            Row(
                (
                    _text(label),
                    *(_interval(entry.means.get(scope, {}).get(R_Q), False) for scope in scopes),
                ),
                label == focus,
            )
            for label, entry in labels.items()
        ]
        columns = tuple(scope.replace("+", " + ") for scope in scopes)
        tables.append(PageTable("R_q by group and combination", ("agent", *columns), tuple(rows)))
    return tables


def _text(text: str) -> Cell:
    return Cell(text, text)


def _number(value: float, digits: int) -> Cell:
    return Cell(f"{value:.{digits}f}", f"{value}")


def _interval(value: ConfidenceInterval | None, with_bounds: bool) -> Cell:
    if value is None or math.isnan(value.mean):
        return Cell("", "")
    digits = 3 if abs(value.mean) < 2 else 2
    shown = with_bounds and not math.isnan(value.low)
    text = format_interval(value, digits) if shown else f"{value.mean:.{digits}f}"
    return Cell(text, f"{value.mean}")


def _html(figure: go.Figure) -> str:
    """Returns a figure as HTML; plotly.js stands once at the top of the page."""
    config = {"responsive": True, "displayModeBar": False}
    return figure.to_html(full_html=False, include_plotlyjs=False, config=config)


def _footer(results: Sequence[Result]) -> str:
    toolboxes = dict.fromkeys(f"{result.toolbox} ({result.fingerprint})" for result in results)
    versions = {name: value for result in results for name, value in result.versions.items() if value}
    return "; ".join(
        ["toolboxes " + ", ".join(toolboxes), *(f"{name} {value}" for name, value in versions.items())]
    )
