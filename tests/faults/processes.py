"""Runs the commands of this package as processes, sends them signals, and gives them full disks."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]

OPERA_ENV = ("-c", "from opera_env.cli import run; run()")
"""Arguments of Python that start ``opera-env``, as its script does; those of the subcommand follow."""

_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: Exit code; the negative number of a signal if the signal ended the process.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str


class Process:
    """A running process whose output can be read at any time; the end of its ``with`` statement kills it.

    Args:
        arguments: Arguments of Python, such as ``("-m", "opera_agents.planner.train", "--steps", "3")`` or
            ``(*OPERA_ENV, "restore", "a.png", "-o", "out")``.
        cwd: Working folder; by default that of the test.
        env: Environment variables to set beside those of the test.
        max_file_bytes: Largest file that the process may write; a longer one fails like a full disk.
        stdout: Where standard output goes; by default it is kept for :meth:`wait`.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        max_file_bytes: int | None = None,
        stdout: IO[bytes] | int | None = None,
    ) -> None:
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - __exit__ closes it
        self._err = tempfile.TemporaryFile()  # noqa: SIM115 - __exit__ closes it
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=child_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=self._out if stdout is None else stdout,
            stderr=self._err,
        )
        if max_file_bytes is not None:
            limits = (max_file_bytes, max_file_bytes)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()
        self._err.close()

    @property
    def out(self) -> str:
        """Standard output until now."""
        return _read(self._out)

    @property
    def err(self) -> str:
        """Standard error until now."""
        return _read(self._err)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 120) -> bool:
        """Waits until a condition holds.

        Returns:
            Whether it holds; False if the process has ended before.

        Raises:
            TimeoutError: If it does not hold within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if self.process.poll() is not None:
                return condition()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s; standard error: {self.err}")
            time.sleep(_POLL_SECONDS)
        return True

    def wait_for(self, text: str, timeout: float = 120) -> bool:
        """Waits until the process has printed ``text`` on one of its outputs; see :meth:`wait_until`."""
        return self.wait_until(lambda: text in self.err or text in self.out, timeout)

    def send(self, number: signal.Signals, after: float = 0.0) -> bool:
        """Sends a signal, ``after`` some seconds; returns whether the process was still running then."""
        deadline = time.monotonic() + after
        while time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
        if self.process.poll() is not None:
            return False
        self.process.send_signal(number)
        return True

    def wait(self, timeout: float = 120) -> Ended:
        """Waits for the end of the process.

        Raises:
            TimeoutError: If it runs for more than ``timeout`` seconds.
        """
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"runs for over {timeout} s; standard error: {self.err}") from error
        return Ended(code, self.out, self.err)


def run(
    arguments: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    max_file_bytes: int | None = None,
    timeout: float = 120,
) -> Ended:
    """Runs a process to its end; the arguments are those of :class:`Process`."""
    with Process(arguments, cwd=cwd, env=env, max_file_bytes=max_file_bytes) as process:
        return process.wait(timeout)


def child_environment() -> dict[str, str]:
    """Environment variables of a process that imports the same packages as the tests, with one thread."""
    folders = [REPOSITORY, REPOSITORY / "agents", REPOSITORY / "baselines"]
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _read(file: IO[bytes]) -> str:
    """Reads a file that a process may be writing to, without moving the position that both share."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def random_moments(seed: int, count: int, latest: float, earliest: float = 0.0) -> list[float]:
    """Draws moments, in seconds, at which processes are sent a signal.

    One moment is drawn in each of ``count`` equal parts of the time, so that no part is left out.
    """
    parts = np.arange(count) + np.random.default_rng(seed).random(count)
    return (earliest + (latest - earliest) * parts / count).tolist()


def leftovers(folder: Path) -> list[Path]:
    """Lists the temporary files under a folder, hidden ones included."""
    return sorted(path for path in folder.rglob("*") if path.name.endswith((".part", ".claim", ".tmp")))


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the content of every file under a folder by its path in the folder, hidden ones included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[int | None]:
    """Makes a folder on a disk of ``size`` bytes.

    Where mounting is not allowed, the folder is a usual one, and the size of each file has to be limited
    instead.

    Yields:
        The ``max_file_bytes`` of processes that write to the folder: None on a small disk, else ``size``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield size
        return
    try:
        yield None
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
