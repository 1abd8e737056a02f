"""The files of ``opera-env restore``: finds the photographs and decides the paths of the results."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from opera_env.data.photo import FORMATS, format_from_name
from opera_env.data.read import read_format
from opera_env.errors import ImageFileError, OutputError


@dataclass(frozen=True)
class RestoreJob:
    """One photograph and the path of its result.

    Attributes:
        input_path: File of the photograph.
        output_path: File of the result.
    """

    input_path: Path
    output_path: Path

    @property
    def comparison_path(self) -> Path:
        """The path of the image that shows the photograph before and after."""
        return self.output_path.with_name(f"{self.output_path.name}.compare.jpg")

    @property
    def sheet_path(self) -> Path:
        """The path of the image that shows the variants beside each other."""
        return self.output_path.with_name(f"{self.output_path.name}.variants.jpg")

    def variant_path(self, number: int) -> Path:
        """Returns the path of a variant, which are counted from 1."""
        return self.output_path.with_name(
            f"{self.output_path.stem}.variant{number}{self.output_path.suffix}"
        )

    def extra_paths(self, compare: bool, variants: int) -> list[Path]:
        """Returns the paths of all files that are written beside the result."""
        numbered = [self.variant_path(number) for number in range(1, variants + 1)]
        return [self.comparison_path] * compare + [self.sheet_path] * bool(variants) + numbered


def find_jobs(
    inputs: Sequence[str], out: Path, format: str | None = None, compare: bool = False, variants: int = 0
) -> list[RestoreJob]:
    """Lists the photographs that arguments name, each with the path of its result.

    Args:
        inputs: Files, folders (the images in them), and patterns; ``**`` includes subfolders, which are
            created again under ``out``. An argument that names no photograph stays in the list, so that
            :func:`check_input` reports it.
        out: A folder, or a file name if there is one photograph only.
        format: A key of :data:`opera_env.data.photo.FORMATS` to write in; None keeps the format of each.
        compare: Whether images of before and after are written as well.
        variants: Number of variants that are written as well.

    Raises:
        OutputError: If two results would have the same name, ``out`` is one file for several results, or
            an argument is empty.
    """
    if "" in inputs:  # an unset shell variable; as a path it would be the current folder
        raise OutputError("expected a file, folder or pattern, found an empty name: use . for this folder")
    paths: dict[str, tuple[Path, Path]] = {}
    for argument in inputs:
        for path, relative in _expand_pattern(argument):
            paths.setdefault(os.path.abspath(path), (path, relative))
    as_file = _is_file_name(out)
    if as_file and (count := len({real_path(path) for path, _ in paths.values()})) > 1:
        raise OutputError(f"{out} is one file, there are {count} photographs: name a folder with -o")
    jobs: dict[Path, RestoreJob] = {}
    for path, relative in paths.values():
        target = _with_format(out if as_file else out / relative, path, format)
        other = jobs.setdefault(target, RestoreJob(path, target))
        if real_path(other.input_path) != real_path(path):
            raise _output_collision(other.input_path, path, target)
    for job in jobs.values():
        for path in job.extra_paths(compare, variants):
            if path in jobs:
                raise _output_collision(jobs[path].input_path, job.input_path, path)
    return list(jobs.values())


def _with_format(target: Path, path: Path, format: str | None) -> Path:
    """Returns the target with the suffix of its format: a known one, or the one of the photograph."""
    if format is None and format_from_name(target) is None:
        try:
            format = read_format(path)
        except ImageFileError:  # reported when the photograph is read
            return target
    if format is None or format_from_name(target) == format:
        return target
    return target.with_suffix(FORMATS[format].suffixes[0])


def _output_collision(first: Path, second: Path, target: Path) -> OutputError:
    return OutputError(
        f"{first} and {second} would both become {target}: restore them in two runs, into two folders"
    )


def _is_file_name(out: Path) -> bool:
    """Returns whether ``out`` names one result and not a folder."""
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
    """Follows links; unlike ``Path.resolve``, it never fails on links that form a cycle."""
    return Path(os.path.realpath(path))


def _expand_pattern(argument: str) -> Iterator[tuple[Path, Path]]:
    """Yields the files that an argument names, each with its path below the output folder."""
    path = Path(argument)
    matched: list[tuple[Path, Path]] = []
    if path.is_dir():
        names = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
        matched = [(path / name, Path(name)) for name in names if _is_photograph(path / name)]
    elif glob.has_magic(argument) and not os.path.lexists(argument):
        base, pattern = _split_pattern(path)
        matches = sorted(glob.glob(pattern, root_dir=base, recursive=True))
        matched = [
            (base / match, _output_subpath(Path(match)))
            for match in matches
            if _is_photograph(base / match)
        ]
    yield from matched or [(path, Path(path.name))]


def _is_photograph(path: Path) -> bool:
    return format_from_name(path) is not None and path.is_file()


def _split_pattern(pattern: Path) -> tuple[Path, str]:
    """Splits a pattern into the folder before its first wildcard and the rest.

    A folder whose name contains the characters of a wildcard, such as brackets, is not a wildcard.
    """
    base, parts = Path(), list(pattern.parts)
    while len(parts) > 1 and (not glob.has_magic(parts[0]) or os.path.lexists(base / parts[0])):
        base /= parts.pop(0)
    return base, os.path.join(*parts)


def _output_subpath(match: Path) -> Path:
    """Returns the path below the output folder; only the name for a match that contains ``..``."""
    return Path(match.name) if ".." in match.parts else match


def check_input(job: RestoreJob) -> None:
    """Checks that an argument names a photograph, as far as can be told without opening a file.

    Raises:
        ImageFileError: If it is a folder or a pattern without photographs.
    """
    path = job.input_path
    if path.is_dir():
        raise ImageFileError(path, "no photographs in this folder; FOLDER/** includes its subfolders")
    if glob.has_magic(str(path)) and not os.path.lexists(path):
        raise ImageFileError(path, "no photograph has a name of this pattern")


def check_target(
    job: RestoreJob,
    inputs: frozenset[Path],
    force: bool,
    compare: bool,
    resume: bool = False,
    variants: int = 0,
) -> None:
    """Checks that a result overwrites no file.

    Args:
        job: The photograph.
        inputs: Real paths of all photographs of this run; none of them is ever overwritten.
        force: Whether results of earlier runs may be replaced.
        compare: Whether an image of before and after is written as well.
        resume: Whether other files than the result, which an interrupted run has left, may be replaced.
        variants: Number of variants that are written as well.

    Raises:
        OutputError: If a file of that name exists and must not be replaced.
    """
    for path in (job.output_path, *job.extra_paths(compare, variants)):
        if is_input(path, job, inputs):
            raise OutputError(f"{path} is one of the photographs to restore: name another folder with -o")
        if path.is_dir():
            raise OutputError(f"{path} is a folder: rename it, or name another folder with -o")
        replaceable = force or (resume and path != job.output_path)
        if os.path.lexists(path) and not replaceable:
            raise OutputError(f"{path} exists: --force replaces it, --skip-existing leaves it")


def is_input(path: Path, job: RestoreJob, inputs: frozenset[Path]) -> bool:
    """Returns whether a path is a photograph of this run, possibly under another name."""
    if real_path(path) in inputs:
        return True
    return path.exists() and job.input_path.exists() and path.samefile(job.input_path)
