"""Tables of results: what their rows and columns are, with published rows beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opera_env.evaluation.published import (
    PUBLISHED_BENCHMARKS,
    PUBLISHED_COMBINATIONS,
    PUBLISHED_GROUPS,
    PUBLISHED_REDUCED_REWARD,
    PublishedRow,
)
from opera_env.evaluation.stats import ConfidenceInterval, format_interval
from opera_env.evaluation.summary import (
    GAIN,
    GAIN_SEEN,
    GAP,
    NORMALISED,
    OVERALL,
    R_Q,
    REGRET,
    EntrySummary,
    Summary,
)

_PUBLISHED_PROTOCOL = "opera"
"""Protocol of all published rows."""


@dataclass(frozen=True)
class TextTable:
    """A table of texts.

    Attributes:
        title: What it shows.
        columns: Headings; the first column is that of the names.
        rows: The cells.
        notes: Sentences below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def make_tables(summary: Summary) -> list[TextTable]:
    """Returns the tables of a summary: R_q and costs, groups, combinations, differences."""
    scopes = (summary.groups or (OVERALL,)) if summary.columns else ()
    tables = [reward_table(summary), *(scope_table(summary, scope) for scope in scopes)]
    tables += [table for entry in summary.entries if (table := combination_table(summary, entry))]
    differences = difference_table(summary)
    return [*tables, *([differences] if differences else [])]


def reward_table(summary: Summary) -> TextTable:
    """Returns the table of R_q, its inter-quartile mean, normalised score, regret, gap and costs."""
    has_score = bool(summary.normalised)
    has_gap = summary.has_gap
    has_tokens = any(entry.prompt_tokens is not None for entry in summary.entries)
    columns = ["agent", "R_q (95 %)", "IQM"]
    columns += ["normalised (95 %)", "IQM", "regret (95 %)"] if has_score else []
    columns += ["gain seen", "gain judged", "gap (95 %)"] if has_gap else []
    rows: list[tuple[str, ...]] = []
    for entry in summary.entries:
        means = entry.means[OVERALL]
        row = [label(summary, entry), _cell(means, R_Q, 2), _mean(entry.interquartile, R_Q, 2)]
        if has_score:
            row += [_cell(means, NORMALISED, 3), _mean(entry.interquartile, NORMALISED, 3)]
            row.append(_cell(means, REGRET, 2))
        if has_gap:
            row += [_mean(means, GAIN_SEEN, 2), _mean(means, GAIN, 2), _cell(means, GAP, 2, signed=True)]
        costs = (f"{entry.tools:.1f}", f"{entry.tools_run:.0f}", f"{entry.images_scored:.0f}")
        tokens = _token_cells(entry) if has_tokens else ()
        rows.append((*row, *costs, f"{entry.seconds:.2f}", *tokens, str(entry.samples)))
    weighting = ", unweighted over combinations" if len(summary.combinations) > 1 else ""
    notes = [f"R_q by {summary.judge}{weighting}; IQM: inter-quartile mean over samples"]
    if has_score:
        notes.append(
            f"normalised: 0 for the input, 1 for the best known plan, on {summary.normalised} samples"
        )
        notes.append("regret: R_q of the best known plan less that of the agent's")
    if has_gap:
        notes.append(f"gap: gain in R_q by the reward that the agent saw, less the gain by {summary.judge}")
    notes.append("tools: in a plan; run, scored, s: tools run, results scored and seconds for a decision")
    if has_tokens:
        notes.append("tokens read, written: by a language model for a decision, those of images included")
    notes += [f"no {title}: {reason}" for title, reason in summary.missing.items()]
    token_titles = ("tokens read", "written") if has_tokens else ()
    titles = (*columns, "tools", "run", "scored", "s", *token_titles, "samples")
    return TextTable(f"{summary.benchmark}: R_q", titles, tuple(rows), tuple(notes))


def scope_table(summary: Summary, scope: str) -> TextTable:
    """Returns the table of the protocol's columns for a group or all samples, with published rows."""
    columns = ("agent", *(column.title for column in summary.columns))
    rows = [
        (
            label(summary, entry),
            *(_cell(entry.means[scope], column.metric, column.digits) for column in summary.columns),
        )
        for entry in summary.entries
        if scope in entry.means
    ]
    published = _published(summary, scope)
    rows += [_published_row(summary, row) for row in published]
    notes = [f"published: {source}" for source in dict.fromkeys(row.source for row in published)]
    if not published and summary.protocol != _PUBLISHED_PROTOCOL:
        notes.append(f"published rows are under the protocol {_PUBLISHED_PROTOCOL}, and not shown here")
    if scope in summary.groups:
        notes.insert(0, "unweighted over combinations, 95 % intervals over photographs")
        title = f"{summary.benchmark}: group {scope}, protocol {summary.protocol}"
    else:
        title = f"{summary.benchmark}, protocol {summary.protocol}"
    return TextTable(title, columns, tuple(rows), tuple(notes))


def combination_table(summary: Summary, entry: EntrySummary) -> TextTable | None:
    """Returns the table of one entry by combination; None if it has one combination only."""
    combinations = [name for name in summary.combinations if name in entry.means]
    if len(combinations) < 2:
        return None
    columns = ("combination", "R_q", *(column.title for column in summary.columns))
    rows: list[tuple[str, ...]] = []
    is_published = _shows_published(summary)
    for name in combinations:
        means = entry.means[name]
        cells = (_cell(means, column.metric, column.digits) for column in summary.columns)
        rows.append((name, _cell(means, R_Q, 2), *cells))
        if is_published and name in PUBLISHED_COMBINATIONS:
            method, *values = _published_row(summary, PUBLISHED_COMBINATIONS[name])
            rows.append((f"  {method}", "", *values))
    notes = ("published: " + next(iter(PUBLISHED_COMBINATIONS.values())).source,) if is_published else ()
    return TextTable(f"{label(summary, entry)} by combination", columns, tuple(rows), notes)


def difference_table(summary: Summary) -> TextTable | None:
    """Returns the table of paired differences to the first entry; None if there are none."""
    first = summary.entries[0]
    columns = (
        "agent",
        "R_q",
        *(["normalised"] if summary.normalised else []),
        *(column.title for column in summary.columns),
    )
    rows: list[tuple[str, ...]] = []
    for entry in summary.entries[1:]:
        if not entry.differences:
            continue
        cells = [_cell(entry.differences, R_Q, 2, signed=True)]
        if summary.normalised:
            cells.append(_cell(entry.differences, NORMALISED, 3, signed=True))
        cells += [
            _cell(entry.differences, column.metric, column.digits, signed=True)
            for column in summary.columns
        ]
        rows.append((label(summary, entry), *cells))
    title = f"paired differences to {label(summary, first)}"
    return TextTable(title, columns, tuple(rows)) if rows else None


def label(summary: Summary, entry: EntrySummary) -> str:
    """Returns the agent, with its toolbox, reward and budget where the summary has several."""
    toolboxes, rewards, budgets = (
        {getattr(each, name) for each in summary.entries} for name in ("toolbox", "reward", "budget")
    )
    text = f"{entry.agent}, {entry.toolbox}" if len(toolboxes) > 1 else entry.agent
    text = f"{text}, seeing {entry.reward}" if len(rewards) > 1 else text
    return f"{text}, budget {entry.budget or 'none'}" if len(budgets) > 1 else text


def _shows_published(summary: Summary) -> bool:
    return bool(summary.groups) and summary.protocol == _PUBLISHED_PROTOCOL


def _published(summary: Summary, scope: str) -> Sequence[PublishedRow]:
    """Returns the published rows of a group or of a benchmark."""
    if summary.protocol != _PUBLISHED_PROTOCOL:
        return ()
    if scope in summary.groups:
        reduced = PUBLISHED_REDUCED_REWARD.get(scope, ()) if summary.has_gap else ()
        return (*PUBLISHED_GROUPS.get(scope, ()), *reduced)
    return PUBLISHED_BENCHMARKS.get(summary.benchmark, ())


def _published_row(summary: Summary, row: PublishedRow) -> tuple[str, ...]:
    """Returns the cells of a published row, as it was printed."""
    cells = (row.texts.get(column.metric, "") for column in summary.columns)
    return (f"{row.method} (published)", *cells)


def _token_cells(entry: EntrySummary) -> tuple[str, str]:
    """Returns the mean numbers of tokens that are read and written for a decision, empty if not known."""
    read, written = (
        "" if count is None else f"{count:.0f}" for count in (entry.prompt_tokens, entry.completion_tokens)
    )
    return read, written


def _cell(means: Mapping[str, ConfidenceInterval], name: str, digits: int, signed: bool = False) -> str:
    """Returns a mean with its interval; the mean alone if it has no interval, empty if there is none."""
    if name not in means:
        return ""
    if means[name].low != means[name].low:
        return f"{means[name].mean:{'+' if signed else ''}.{digits}f}"
    return format_interval(means[name], digits, signed)


def _mean(means: Mapping[str, ConfidenceInterval], name: str, digits: int) -> str:
    return f"{means[name].mean:.{digits}f}" if name in means else ""
