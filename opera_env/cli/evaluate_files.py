"""The files that ``opera-env evaluate`` writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from opera_env.cli.options.evaluate import Evaluate
from opera_env.cli.outputs import check_outputs, write_output
from opera_env.errors import OperaError
from opera_env.evaluation.benchmarks import Benchmark
from opera_env.evaluation.partial import PARTIAL_SUFFIX, PartialResults, partial_results
from opera_env.evaluation.results import Result, format_line, spec_digest
from opera_env.evaluation.summary import Summary
from opera_env.evaluation.table_formats import FORMATS

_STANDARD_OUTPUT = Path("-")


class EvaluationFiles:
    """The files of an evaluation. They are checked when this object is made, before anything is computed.

    Args:
        options: The options, which name the files.

    Attributes:
        errors: Errors in writing tables; the others are written and printed all the same.
        written: Files that were written, by what they hold.

    Raises:
        OutputError: If a file exists already or cannot be written.
    """

    def __init__(self, options: Evaluate) -> None:
        self.errors: list[Exception] = []
        self.written: dict[Path, str] = {}
        self._options = options
        self._tables = {name: path for name in FORMATS if (path := getattr(options, name)) is not None}
        files = {f"--{name}": path for name, path in self._tables.items() if path != _STANDARD_OUTPUT}
        # The results of a run that was interrupted before its tables are there already.
        out = options.out
        self._force = options.force or (
            options.resume and out is not None and Path(f"{out}{PARTIAL_SUFFIX}").exists()
        )
        check_outputs({"--out": out}, self._force)
        check_outputs(files, options.force)
        check_outputs({"--out": out, **files}, force=True)  # that no two are the same

    @contextmanager
    def partial(self, benchmark: Benchmark, options: Evaluate) -> Iterator[PartialResults | None]:
        """Yields what keeps results as they come; None without a file for the results."""
        if options.out is None:
            yield None
            return
        settings = {
            "benchmark": benchmark.name,
            "samples": [spec_digest(sample.spec) for sample in benchmark.samples],
            "plans": options.plans is not None,
            **{
                name: getattr(options, name)
                for name in ("reward", "judge", "max_tools", "tool_cost", "num_plans", "seed", "device")
            },
            **({} if options.answers is None else {"answers": True}),
            **({"budget": sorted(set(options.budget))} if options.budget else {}),
        }
        with partial_results(options.out, settings, resume=options.resume, force=options.force) as partial:
            yield partial
            partial.is_complete = options.out in self.written

    def write_results(self, results: Sequence[Result]) -> None:
        """Writes the results as JSON lines; the file is complete or absent."""
        path = self._options.out
        if path is None:
            return
        with write_output(path, self._force) as part:
            part.write_text("".join(format_line(result) + "\n" for result in results))
        self.written[path] = "results"

    def write_tables(self, summary: Summary) -> bool:
        """Writes the tables in all formats that were asked for; returns whether one was printed."""
        for name, path in self._tables.items():
            text = FORMATS[name](summary)
            if path == _STANDARD_OUTPUT:
                sys.stdout.write(text)
                continue
            try:
                with write_output(path, self._options.force) as part:
                    part.write_text(text)
                self.written[path] = "tables"
            except (OSError, OperaError) as error:
                self.errors.append(error)
        return _STANDARD_OUTPUT in self._tables.values()
