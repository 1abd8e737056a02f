"""``opera-env weights``: weight files that do not come with this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from opera_env import weights
from opera_env.cli.options.weights import Weights
from opera_env.console import Console
from opera_env.errors import DownloadError, SettingError, UnknownPresetError
from opera_env.tools.paper import PAPER, check_paper_file
from opera_env.weights.paper_files import PAPER_FILES
from opera_env.weights.published import (
    PublishedFile,
    check_free_space,
    fetch_published,
    published_status,
)

_COLOURS = {"present": "green", "missing": "yellow", "damaged": "red"}
_GROUPS: Mapping[str, tuple[str, ...]] = {
    PAPER: tuple(PAPER_FILES),
    "metrics": ("lpips", "musiq", "clipiqa", "maniqa"),
}
"""Names that stand for several files."""


def run(options: Weights) -> int:
    """Runs the action and prints a table; returns the exit code."""
    names = _expand(options.names)
    if options.action == "fetch":
        return _fetch(names, options)
    everything = (*(weight.name for weight in weights.WEIGHT_FILES), *PAPER_FILES)
    statuses: dict[str, weights.Status] = {name: _status(name) for name in names or everything}
    _print_table(statuses)
    failing = ("damaged", "missing") if names else ("damaged",)
    return int(options.action == "verify" and any(status in failing for status in statuses.values()))


def _expand(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of single files, each once."""
    known = [*_GROUPS, *(weight.name for weight in weights.WEIGHT_FILES), *PAPER_FILES]
    for name in names:
        if name not in known:
            raise UnknownPresetError("weight file", name, known)
    return tuple(dict.fromkeys(single for name in names for single in _GROUPS.get(name, (name,))))


def _status(name: str) -> weights.Status:
    return published_status(PAPER_FILES[name]) if name in PAPER_FILES else weights.status(name)


def _fetch(names: Sequence[str], options: Weights) -> int:
    console = Console(stderr=True, soft_wrap=True)
    if not names:
        known = ", ".join((*_GROUPS, *(weight.name for weight in weights.WEIGHT_FILES), *PAPER_FILES))
        console.print(f"expected names of files to fetch: {known}")
        return 2
    published = [PAPER_FILES[name] for name in names if name in PAPER_FILES]
    if options.source is not None and len(published) < len(names):
        others = ", ".join(name for name in names if name not in PAPER_FILES)
        raise SettingError("from", options.source, f"only names of files of {PAPER}, found {others}")
    wanted = [file for file in published if options.force or _status(file.name) != "present"]
    _print_licences(wanted, console)
    check_free_space(file for file in wanted if file.urls or options.source is not None)
    steps: dict[str, Callable[[], object]] = {
        file.name: lambda file=file: fetch_published(file, check_paper_file, options.source)
        for file in wanted
    }
    for name in names:
        if name not in PAPER_FILES:
            steps[name] = lambda name=name: weights.fetch(name, force=options.force)
    num_failed = 0
    for step in steps.values():
        try:
            step()
        except DownloadError as error:  # the other files are still fetched
            console.print(str(error), style="red", markup=False, highlight=False)
            num_failed += 1
    _print_table({name: _status(name) for name in names})
    return int(num_failed > 0)


def _print_licences(files: Sequence[PublishedFile], console: Console) -> None:
    """Prints who publishes the files, and under which licence, before the first byte is fetched."""
    publishers = dict.fromkeys((file.page, file.licence) for file in files)
    for page, licence in publishers:
        names = [file.name for file in files if file.page == page]
        text = f"{page}: licence {licence}, for {', '.join(names)}"
        console.print(text, markup=False, highlight=False)


def _print_table(statuses: Mapping[str, weights.Status]) -> None:
    table = Table("name", "status", box=None)
    table.add_column("where it belongs", overflow="fold")  # a path that is cut short is useless
    table.add_column("description")
    for name, status in statuses.items():
        path, description = _describe(name)
        table.add_row(name, f"[{_COLOURS[status]}]{status}", str(path), description)
    Console().print(table)


def _describe(name: str) -> tuple[Path, str]:
    entry = PAPER_FILES[name] if name in PAPER_FILES else weights.get_weight_file(name)
    return entry.path, entry.description
