"""The files that ``opera-env compare`` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from PIL.Image import Image

from opera_env.cli.options.compare import Compare
from opera_env.cli.outputs import check_outputs, write_output
from opera_env.console import Console
from opera_env.errors import OperaError
from opera_env.evaluation.compare import Comparison, EvaluationConfig
from opera_env.evaluation.partial import PARTIAL_SUFFIX, PartialResults, digest_samples, partial_results
from opera_env.evaluation.sheet import encode_sheet
from opera_env.files import atomic_create
from opera_env.tools import Toolbox
from opera_env.types import Sample

_SHEET = "results/compare-{number}.jpg"


class ComparisonFiles:
    """The files of a comparison. They are checked when this object is made, before anything is computed.

    Args:
        options: The options, which name the files.

    Attributes:
        errors: Errors in writing; the tables are printed all the same.
        written: Files that were written, by what they hold.

    Raises:
        OutputError: If a file exists already or cannot be written.
    """

    def __init__(self, options: Compare) -> None:
        self.options = options
        self.errors: list[Exception] = []
        self.written: dict[Path, str] = {}
        self._force = options.force
        if options.json is not None:
            # A run that was interrupted between its two files has left the first one.
            is_interrupted = Path(f"{options.json}{PARTIAL_SUFFIX}").exists()
            self._force |= options.resume and is_interrupted
            check_outputs({"--json": options.json}, self._force)
            check_outputs({"the records of --json": options.json.with_suffix(".jsonl")}, self._force)
        check_outputs({"--sheet": None if options.no_sheet else options.sheet}, options.force)

    @contextmanager
    def partial(
        self, samples: Sequence[Sample], toolbox: Toolbox, config: EvaluationConfig
    ) -> Iterator[PartialResults | None]:
        """Yields what keeps the agents that are finished; None without a file for the results."""
        if self.options.json is None:
            yield None
            return
        settings = {
            "samples": digest_samples(samples),
            "toolbox": toolbox.fingerprint,
            "device": str(toolbox.device),
            **asdict(config),
        }
        target, resume, force = self.options.json, self.options.resume, self.options.force
        with partial_results(target, settings, resume=resume, force=force) as partial:
            yield partial
            partial.is_complete = target in self.written
            for error in self.errors:
                partial.describe(error)

    def write_results(self, summary: Mapping[str, Any], comparison: Comparison) -> None:
        """Writes the records and then the summary; each file is complete or absent."""
        path = self.options.json
        if path is None:
            return
        records = "".join(json.dumps(record.to_json()) + "\n" for record in comparison.records)
        with self._postponed():
            with write_output(path.with_suffix(".jsonl"), self._force) as part:
                part.write_text(records)
            with write_output(path, self._force) as part:
                part.write_text(json.dumps(summary, indent=2) + "\n")
            self.written |= {path: "results", path.with_suffix(".jsonl"): "results"}

    def write_sheet(self, sheet: Image, console: Console) -> None:
        """Writes the picture sheet; one that was not asked for may fail with a notice."""
        path = self.options.sheet
        if path is None:
            try:
                self.written[_write_numbered(sheet)] = "pictures"
            except OSError as error:
                console.print(f"no picture sheet: {error.strerror}: {error.filename}", soft_wrap=True)
            return
        with self._postponed():
            with write_output(path, self.options.force) as part:
                part.write_bytes(encode_sheet(sheet, path))
            self.written[path] = "pictures"

    @contextmanager
    def _postponed(self) -> Iterator[None]:
        """Keeps an error instead of raising it."""
        try:
            yield
        except (OSError, OperaError) as error:
            self.errors.append(error)


def _write_numbered(sheet: Image) -> Path:
    """Writes a sheet to the first numbered file that does not exist yet, and returns its path."""
    for number in count(1):
        path = Path(_SHEET.format(number=number))
        if os.path.lexists(path):
            continue
        try:
            with atomic_create(path) as part:
                part.write_bytes(encode_sheet(sheet, path))
        except FileExistsError:  # another comparison has just taken the number
            continue
        return path
    raise AssertionError("numbers do not end")
