"""The figures of a report, as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from plotly import graph_objects as go

from opera_env.evaluation.stats import ConfidenceInterval
from opera_env.evaluation.summary import OVERALL, R_Q, EntrySummary
from opera_env.report.curves import Curve
from opera_env.report.plan_statistics import PlanStatistics

_LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 50, "r": 10, "t": 20, "b": 50},
    "height": 420,
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
}
_LEFT_EDGE = 0.5
"""Where entries that run no tool stand on the logarithmic axis."""

_TICKS = tuple(factor * 10**power for power in range(6) for factor in (1, 2, 5))

_MAX_LABEL = 28
"""Longest label on an axis, in characters; longer ones end in dots."""


def quality_cost_figure(entries: Mapping[str, EntrySummary]) -> go.Figure:
    """Draws the quality of each entry over the tools that it runs for a result, those of its plan included.

    Args:
        entries: The entries by label. Those that run no tool stand at the left edge.
    """
    figure = go.Figure()
    # An agent that looks again after each tool, and a search, have run their plan before they end.
    costs = [max(entry.tools_run, entry.tools) for entry in entries.values()]
    largest = max(costs, default=1)
    for (label, entry), cost in zip(entries.items(), costs, strict=True):
        value: ConfidenceInterval = entry.means[OVERALL][R_Q]
        figure.add_scatter(
            x=[max(cost, _LEFT_EDGE)],
            y=[value.mean],
            error_y={
                "array": [value.high - value.mean],
                "arrayminus": [value.mean - value.low],
                "thickness": 1,
            },
            name=label,
            mode="markers",
            marker={"size": 10},
            hovertemplate=f"{label}<br>%{{y:.2f}} R_q, {cost:.1f} tools<extra></extra>",
        )
    ticks = [tick for tick in _TICKS if tick < 2.5 * largest]
    figure.update_xaxes(
        type="log",
        title="tools run per image",
        tickvals=[_LEFT_EDGE, *ticks],
        ticktext=["0", *map(str, ticks)],
    )
    figure.update_yaxes(title="R_q, 95 % interval")
    return figure.update_layout(_LAYOUT)


def transition_figure(statistics: PlanStatistics) -> go.Figure:
    """Draws which tool follows which, as a heat map of fractions of the transitions from each state."""
    rows, columns = statistics.states[:-1], statistics.states[1:]
    counts = [row[1:] for row in statistics.transitions[:-1]]
    fractions = [[count / max(1, sum(row)) for count in row] for row in counts]
    figure = go.Figure(
        go.Heatmap(
            z=fractions,
            x=[_shorten(name) for name in columns],
            y=[_shorten(name) for name in rows],
            customdata=counts,
            text=[[f"{count}" if count else "" for count in row] for row in counts],
            texttemplate="%{text}",
            colorscale="Blues",
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="%{y}, then %{x}: %{customdata} times, %{z:.0%}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", title="tool", automargin=True)
    figure.update_xaxes(title="next tool", tickangle=-45, automargin=True)
    return figure.update_layout(_LAYOUT | {"height": 160 + 34 * len(rows)})


def transition_width(statistics: PlanStatistics) -> int:
    """Returns the least width of the heat map in pixels, with which its numbers can be read."""
    return 220 + 38 * len(statistics.states)


def length_figure(statistics: Mapping[str, PlanStatistics]) -> go.Figure:
    """Draws the mean number of tools by number of degradations, a group of bars for each entry."""
    figure = go.Figure()
    for label, found in statistics.items():
        numbers = [f"{number}" for number in found.lengths]
        figure.add_bar(x=numbers, y=list(found.lengths.values()), name=label)
    figure.update_xaxes(title="number of degradations", type="category")
    figure.update_yaxes(title="mean number of tools")
    return figure.update_layout(_LAYOUT, barmode="group")


def curve_figures(curves: Sequence[Curve]) -> dict[str, go.Figure]:
    """Draws one figure for each scalar, with a line for each run; by the name of the scalar."""
    figures: dict[str, go.Figure] = {}
    for tag, lines in groupby(curves, key=lambda curve: curve.tag):
        figure = go.Figure()
        for line in lines:
            figure.add_scatter(x=line.steps, y=line.values, name=line.run, mode="lines")
        figure.update_xaxes(title="step")
        figure.update_yaxes(title=tag)
        figures[tag] = figure.update_layout(_LAYOUT | {"height": 320}, showlegend=True)
    return figures


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 3]}..."
