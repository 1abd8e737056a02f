"""From the words of a command to files: what is to be read, and where results go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from opera_env.data.photo import FORMATS, format_from_name
from opera_env.errors import OutputError


@dataclass(frozen=True)
class Job:
    """One photograph: where it is and where its result goes."""

    source: Path
    target: Path

    @property
    def strip(self) -> Path:
        """Where the picture of before and after goes."""
        return self.target.with_name(f"{self.target.name}.compare.jpg")


def find_jobs(
    inputs: Sequence[str], out: Path, format: str | None = None, compare: bool = False
) -> list[Job]:
    """Lists the photographs that words name, and gives each its place.

    Args:
        inputs: Files, folders (the images in them), and patterns; ``**`` goes into subfolders, which
            are made again under OUT. What names nothing stays in the list, to fail by its name.
        out: A folder, or a file name if there is one photograph only.
        format: A key of :data:`opera_env.data.photo.FORMATS` to write in; None keeps each one's own.
        compare: Whether there will be strips as well.

    Raises:
        OutputError: If two results would have one name, or OUT cannot hold several.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for word in inputs:
        for source, relative in _expand_pattern(word):
            found.setdefault(os.path.abspath(source), (source, relative))
    as_file = _is_file_name(out)
    if as_file and (count := len({real_path(source) for source, _ in found.values()})) > 1:
        raise OutputError(f"{out} is one file, there are {count} photographs: name a folder with -o")
    jobs: dict[Path, Job] = {}
    for source, relative in found.values():
        target = out if as_file else out / relative
        if format is not None and format_from_name(target) != format:
            target = target.with_suffix(FORMATS[format].suffixes[0])
        other = jobs.setdefault(target, Job(source, target))
        if real_path(other.source) != real_path(source):
            raise _output_collision(other.source, source, target)
    for job in jobs.values() if compare else ():
        if job.strip in jobs:
            raise _output_collision(jobs[job.strip].source, job.source, job.strip)
    return list(jobs.values())


def _output_collision(first: Path, second: Path, target: Path) -> OutputError:
    return OutputError(
        f"{first} and {second} would both become {target}: restore them in two runs, into two folders"
    )


def _is_file_name(out: Path) -> bool:
    """Whether OUT is a name for one result, not a folder."""
    if out.is_dir():
        return False
    if format_from_name(out) is not None:
        return True
    endings = ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)
    if out.suffix.lower() in Image.registered_extensions():
        raise OutputError(f"{out}: files of this kind are not written; name a folder, or one of {endings}")
    if os.path.lexists(out):
        raise OutputError(f"{out} is a file: expected a folder after -o, or a name that ends in {endings}")
    return False


def real_path(path: Path) -> Path:
    """Follows links; unlike ``Path.resolve``, never fails on those that go in circles."""
    return Path(os.path.realpath(path))


def _expand_pattern(word: str) -> Iterator[tuple[Path, Path]]:
    """Yields the files that a word names, each with its place under the output folder."""
    path = Path(word)
    found: list[tuple[Path, Path]] = []
    if path.is_dir():
        names = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
        yield from ((path / name, Path(name)) for name in names if _is_photograph(path / name))
        return
    if glob.has_magic(word) and not os.path.lexists(word):
        base, pattern = _split(path)
        matches = sorted(glob.glob(pattern, root_dir=base, recursive=True))
        found = [
            (base / match, _output_subpath(Path(match)))
            for match in matches
            if _is_photograph(base / match)
        ]
    yield from found or [(path, Path(path.name))]


def _is_photograph(path: Path) -> bool:
    return format_from_name(path) is not None and path.is_file()


def _split(pattern: Path) -> tuple[Path, str]:
    """Parts a pattern into the folder before its first wildcard and the rest.

    A folder that is there by that very name, brackets and all, is no wildcard.
    """
    base, parts = Path(), list(pattern.parts)
    while len(parts) > 1 and (not glob.has_magic(parts[0]) or os.path.lexists(base / parts[0])):
        base /= parts.pop(0)
    return base, os.path.join(*parts)


def _output_subpath(match: Path) -> Path:
    """A place under the output folder, even for patterns that climb out of theirs."""
    return Path(match.name) if ".." in match.parts else match


def check_target(job: Job, inputs: frozenset[Path], force: bool, compare: bool) -> None:
    """Refuses to write over what is there.

    Args:
        job: The photograph.
        inputs: Real paths of all photographs of this run; none of them is ever written over.
        force: Whether results of earlier runs may be replaced.
        compare: Whether there will be a strip as well.

    Raises:
        OutputError: If the place is taken.
    """
    for path in (job.target, job.strip) if compare else (job.target,):
        if is_input(path, job, inputs):
            raise OutputError(f"{path} is one of the photographs to restore: name another folder with -o")
        if path.is_dir():
            raise OutputError(f"{path} is a folder")
        if os.path.lexists(path) and not force:
            raise OutputError(f"{path} exists: --force replaces it, --skip-existing leaves it")


def is_input(path: Path, job: Job, inputs: frozenset[Path]) -> bool:
    """Whether a path leads to a photograph of this run, be it under another name."""
    if real_path(path) in inputs:
        return True
    return path.exists() and job.source.exists() and path.samefile(job.source)
