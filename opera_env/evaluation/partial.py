"""Results of a long run, kept one by one in a file until the run is complete."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from opera_env.errors import OutputError
from opera_env.evaluation.scorers import CachingScorer
from opera_env.files import digest_text
from opera_env.types import Sample

PARTIAL_SUFFIX = ".partial"
"""Added to the name of the results' file."""

_IDENTITY = "settings"


class PartialResults:
    """Results by key, in a file to which each result is appended at once.

    A line of the file is a digest and a key with its value as JSON; the first line has the settings of the
    run. A line that a killed process has left unfinished is removed.

    Args:
        file: The file, open for reading and appending.
        path: Its path.

    Attributes:
        values: The results.
        is_complete: Whether the results of the complete run are written, so that these are not needed.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self.values: dict[str, Any] = {}
        self.is_complete = False

    def get(self, key: str) -> Any:
        """Returns the result of a key; None if there is none yet."""
        return self.values.get(key)

    def save(self, key: str, value: Any) -> None:
        """Appends a result, so that it outlives this process.

        Args:
            key: Its key, which must be new.
            value: JSON types.

        Raises:
            OSError: If the file cannot be written, as on a full disk.
        """
        text = json.dumps([key, value])
        end = self._file.seek(0, os.SEEK_END)
        self.values[key] = value  # before it is written: a signal may come in between
        try:
            _write_all(self._file, f"{digest_text(text)} {text}\n".encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            del self.values[key]
            error.filename = str(self._path)
            with suppress(OSError):
                self._file.truncate(end)  # the lines before are whole
            raise

    def describe(self, error: BaseException) -> None:
        """Adds to the error that ends a run where its results are."""
        if len(self.values) > 1 and not self.is_complete:
            error.add_note(f"{self._path} keeps what is finished, --resume continues")


class KeptResults:
    """Results of the parts of a comparison, each with the outcomes that it has added to the scorer.

    Args:
        samples: The samples.
        scorer: The scorer that all parts share.
        partial: Keeps the results beyond the end of the process; None keeps them in memory.
    """

    def __init__(
        self, samples: Sequence[Sample], scorer: CachingScorer, partial: PartialResults | None
    ) -> None:
        self._samples, self._scorer, self._partial = samples, scorer, partial
        self._results: dict[str, Any] = {}
        self._num_kept = len(scorer.outcomes)

    def has(self, key: str) -> bool:
        """Returns whether there is a result."""
        return key in self._results or (self._partial is not None and self._partial.get(key) is not None)

    def keep(self, key: str, result: Any) -> None:
        """Keeps a result in JSON types, with the outcomes that are new since the one before."""
        self._results[key] = result
        if self._partial is not None:
            outcomes = self._scorer.to_json(self._samples, self._num_kept)
            self._partial.save(key, {"result": result, "outcomes": outcomes})
        self._num_kept = len(self._scorer.outcomes)

    def restore(self, key: str) -> Any:
        """Returns a result, and gives the scorer its outcomes if it is of an interrupted comparison."""
        if key not in self._results and self._partial is not None:
            kept = self._partial.get(key)
            self._scorer.add_json(self._samples, kept["outcomes"])
            self._num_kept = len(self._scorer.outcomes)
            self._results[key] = kept["result"]
        return self._results[key]


@contextmanager
def partial_results(
    target: Path, settings: Mapping[str, Any], *, resume: bool = False, force: bool = False
) -> Iterator[PartialResults]:
    """Yields the partial results of a run, and removes their file when the run is complete.

    If the run ends before it is complete, the file stays, and a note of the exception says so.

    Args:
        target: File for the results of the complete run. The partial ones are in a file beside it.
        settings: Whatever the results depend on, in JSON types.
        resume: Whether to continue an interrupted run.
        force: Whether the results of an interrupted run may be thrown away.

    Raises:
        OutputError: If another process writes the same results; or if there are results of an interrupted
            run, and they are neither to be continued nor thrown away, or they are damaged or have other
            settings.
    """
    path = target.with_name(target.name + PARTIAL_SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        _lock(file, path, target)
        partial = PartialResults(file, path)
        _read(partial, file, path, json.loads(json.dumps(dict(settings))), resume, force)
        try:
            yield partial
        except BaseException as error:
            partial.describe(error)
            raise
        finally:
            if partial.is_complete or len(partial.values) == 1:
                path.unlink()


def digest_samples(samples: Sequence[Sample]) -> str:
    """Returns a digest of the images of samples and their order."""
    return hashlib.sha256("".join(sample.key for sample in samples).encode()).hexdigest()


def _lock(file: IO[bytes], path: Path, target: Path) -> None:
    """Locks the file until it is closed, also by the end of the process."""
    with suppress(ImportError):  # Windows has no fcntl
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another process is writing {target}: wait until it ends, or choose another name."
            ) from None
    with suppress(OSError):
        if os.stat(path).st_ino == os.fstat(file.fileno()).st_ino:
            return
    raise OutputError(f"another process has just written {target}: choose another name.")


def _read(
    partial: PartialResults,
    file: IO[bytes],
    path: Path,
    settings: Mapping[str, Any],
    resume: bool,
    force: bool,
) -> None:
    """Reads the results of an interrupted run; an empty file gets the settings."""
    file.seek(0)
    data = file.read()
    complete = data[: data.rfind(b"\n") + 1]
    if (force and not resume) or complete.count(b"\n") < 2:
        complete = b""
    elif not resume:
        raise OutputError(
            f"{path} keeps results of an interrupted run: --resume continues it, --force starts again."
        )
    file.truncate(len(complete))
    for number, line in enumerate(complete.split(b"\n")[:-1], 1):
        key, value = _parse(line, number, path)
        partial.values[key] = value
    if not complete:
        partial.save(_IDENTITY, settings)
    saved = partial.values.get(_IDENTITY)
    if saved != settings:
        changed = sorted(
            name for name in settings if not isinstance(saved, dict) or saved.get(name) != settings[name]
        )
        raise OutputError(
            f"{path} keeps results of a run with other settings ({', '.join(changed)}): use the same "
            "settings, choose another name, or start again with --force."
        )


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Writes to an unbuffered file, which may take a part at a time."""
    while data:
        data = data[file.write(data) :]


def _parse(line: bytes, number: int, path: Path) -> tuple[str, Any]:
    digest, _, text = line.decode(errors="replace").partition(" ")
    with suppress(ValueError):
        if digest == digest_text(text):
            key, value = json.loads(text)
            return str(key), value
    raise OutputError(f"{path} is damaged in line {number}: start again with --force.")
