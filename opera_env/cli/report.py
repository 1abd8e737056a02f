"""``opera-env report``: one page about results and training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from opera_env.cli.compare_names import NEEDS_LABELS
from opera_env.cli.options.report import Report
from opera_env.cli.outputs import check_outputs, progress_bars, write_output
from opera_env.console import Console
from opera_env.devices import resolve_device
from opera_env.errors import ResultsError, SettingError
from opera_env.evaluation.benchmarks import BenchmarkOptions, BenchmarkSample, load_benchmark
from opera_env.evaluation.results import Result, by_entry, check_reward, read_results
from opera_env.evaluation.summary import OVERALL, R_Q, EntrySummary, summarise_results
from opera_env.evaluation.tables import label
from opera_env.execution import PrefixCache
from opera_env.imports import needs_extra
from opera_env.report.curves import read_curves
from opera_env.report.pictures import PictureCard, draw_cards
from opera_env.report.plan_statistics import plan_statistics
from opera_env.runs.identity import folder_name
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.tools.toolbox import shipped_toolboxes
from opera_env.types import Sample

with needs_extra("report"):
    from opera_env.report.page import make_page, render_page


def run(options: Report) -> int:
    """Writes the page and says where it is; returns the exit code."""
    check_outputs({"--out": options.out}, options.force)
    folders = [path for path in options.sources if path.is_dir()]
    results = [row for path in options.sources if not path.is_dir() for row in read_results(path)]
    curves = read_curves(folders)
    console = Console(highlight=False, markup=False)
    if not results:
        page = make_page(None, {}, {}, "", (), curves, (), options.title)
    else:
        summary = summarise_results(results, options.protocol, seed=options.seed)
        by_key = by_entry(results)
        entries = {label(summary, entry): entry for entry in summary.entries if entry.key in by_key}
        rows = {name: by_key[entry.key] for name, entry in entries.items()}
        toolboxes = _load_toolboxes(results, options, console)
        degradations = {tool.name: tool.degradations for box in toolboxes.values() for tool in box}
        focus = _choose_focus(options.agent, entries)
        page = make_page(
            summary,
            entries,
            {name: plan_statistics(found, degradations) for name, found in rows.items()},
            focus,
            _cards(options, rows, focus, toolboxes),
            curves,
            results,
            options.title,
        )
    with write_output(options.out, options.force) as part:
        part.write_text(render_page(page), encoding="utf-8")
    console.print(f"page: {options.out}", soft_wrap=True)
    return 0


def _choose_focus(name: str | None, entries: Mapping[str, EntrySummary]) -> str:
    """Returns the label of the entry in focus: the best one that sees neither scores nor labels.

    Raises:
        SettingError: If no entry has the name.
    """
    if name is not None:
        if name not in entries:
            raise SettingError("agent", name, f"one of {', '.join(entries)}")
        return name
    eligible = [
        name
        for name, entry in entries.items()
        if not entry.images_scored and entry.agent.partition(":")[0] not in NEEDS_LABELS
    ]
    return max(eligible or entries, key=lambda name: entries[name].means[OVERALL][R_Q].mean)


def _load_toolboxes(results: Sequence[Result], options: Report, console: Console) -> dict[str, Toolbox]:
    """Returns the toolboxes of the results that can be loaded, by the name that the results give them.

    Raises:
        ResultsError: If the tools have changed since.
    """
    device = resolve_device(options.device)
    names = {folder_name(Path(name)): name for name in filter(None, options.toolboxes.split(","))}
    names |= {name: name for name in shipped_toolboxes()}
    loaded: dict[str, Toolbox] = {}
    for name, fingerprint in dict.fromkeys((row.toolbox, row.fingerprint) for row in results):
        if name not in names:
            console.print(
                f"no images and no order of tools for the toolbox {name}: name its folder by --toolboxes",
                soft_wrap=True,
            )
            continue
        toolbox = Toolbox.load(names[name], device, options.trust_code)
        if toolbox.fingerprint != fingerprint:
            raise ResultsError(
                f"the toolbox {name} has the fingerprint {toolbox.fingerprint}, and the results are of "
                f"{fingerprint}: its tools have changed. Evaluate again, or name the old folder by "
                "--toolboxes."
            )
        loaded[name] = toolbox
    return loaded


def _cards(
    options: Report,
    rows: Mapping[str, Sequence[Result]],
    focus: str,
    toolboxes: Mapping[str, Toolbox],
) -> list[PictureCard]:
    """Returns the images of the samples with the largest regret."""
    first = rows[focus][0]
    if not options.count or first.toolbox not in toolboxes:
        return []
    benchmark = load_benchmark(
        first.benchmark,
        BenchmarkOptions(options.hq, options.lq, None, options.canvas, options.depth, options.seed),
    )

    def make(result: Result) -> Sample:
        return benchmark.make(BenchmarkSample(result.spec, result.group, result.combination, result.input))

    check_reward(first.reward, options.reward, "reward", "the results")
    scorers = {
        name: PlanScorer(toolbox, first.reward, cache=PrefixCache()) for name, toolbox in toolboxes.items()
    }
    shown = {name: found for name, found in rows.items() if len(found) == len(rows[focus])}
    with progress_bars() as bars:
        task = bars.add_task("images")
        return draw_cards(
            shown,
            focus,
            options.count,
            make,
            scorers,
            lambda done, total: bars.update(task, completed=done, total=total),
        )
