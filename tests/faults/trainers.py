"""Runs of trainers in forked processes, which need no time to start."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.numpy import load_file

from opera_env.cli.program import program_code
from opera_env.signals import signals_end_the_process
from tests.faults.processes import Ended

_END = b"\0"
"""Written after the numbers of all signals that have arrived before the end of a command."""


@dataclass(frozen=True)
class Trainer:
    """A trainer and settings with which it is fast.

    Attributes:
        config_type: Dataclass of the settings.
        train: The trainer.
        options: Its command line, with the names of the inputs as places, such as ``{images}``.
        out: What it writes to, in the folder of a test.
        folder: The folder of the run, in the folder of a test.
        results: The folder of what is compared, in the folder of a test.
        read_again: Patterns of the files that a resumed run reads.
        is_slow: Whether a run takes seconds; fewer of its runs are disturbed.
        warns: Whether libraries print warnings before the line that says how a run ended.
    """

    config_type: type[Any]
    train: Callable[[Any], object]
    options: str
    out: str = "run"
    folder: str = "run"
    results: str = "run"
    read_again: tuple[str, ...] = ("**/config.json", "**/checkpoint.pt")
    is_slow: bool = False
    warns: bool = False

    def arguments(self, inputs: Inputs, root: Path) -> list[str]:
        """Returns the command line of a run in a folder."""
        words = [word.format(**asdict(inputs)) for word in self.options.split()]
        return [*words, "--out", str(root / self.out)]

    def start(self, inputs: Inputs, root: Path, *extra: str, max_file_bytes: int | None = None) -> Run:
        """Starts a run in a process of its own."""
        return Run(self, [*self.arguments(inputs, root), *extra], root, max_file_bytes)

    def run(self, inputs: Inputs, root: Path, *extra: str, max_file_bytes: int | None = None) -> Ended:
        """Runs to the end."""
        return self.start(inputs, root, *extra, max_file_bytes=max_file_bytes).wait()


@dataclass(frozen=True)
class Inputs:
    """What the trainers are given.

    Attributes:
        images: Folder of photographs.
        toolbox: Folder of a toolbox.
        planner: Folder of a planner for it.
        vlm: Folder of a vision-language model for it.
    """

    images: Path
    toolbox: Path
    planner: Path
    vlm: Path


class Run:
    """A run of a trainer in a forked process."""

    def __init__(
        self, trainer: Trainer, arguments: Sequence[str], root: Path, max_file_bytes: int | None
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        number = len(list(root.parent.glob(f"{root.name}-*.out")))
        self.out = root / trainer.out
        self._stdout, self._stderr, self._journal = (
            root.with_name(f"{root.name}-{number}.{suffix}") for suffix in ("out", "err", "journal")
        )
        files = (self._stdout, self._stderr, self._journal)
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(trainer, list(arguments), *files, max_file_bytes)
        )
        with _one_thread():
            process.start()
        self.process: BaseProcess = process
        self.wait_for(self._stdout)

    def send(self, number: signal.Signals, after: float) -> bool:
        """Sends a signal after some seconds; returns whether the process was still running then."""
        self.process.join(after)
        if self.process.exitcode is not None:
            return False
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        return True

    def has_received(self, number: signal.Signals) -> bool:
        """Returns whether a signal has arrived before the end of the command."""
        return number in self._journal.read_bytes().partition(_END)[0]

    def wait_for(self, path: Path) -> None:
        """Waits until a file exists."""
        deadline = time.monotonic() + 60
        while not path.exists() and self.process.exitcode is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert path.exists(), self._stderr.read_text()

    def wait(self) -> Ended:
        """Waits for the end of the process."""
        self.process.join(120)
        assert self.process.exitcode is not None, "the process hangs"
        return Ended(self.process.exitcode, self._stdout.read_text(), self._stderr.read_text())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Ends the threads of OpenCV and PyTorch, for which a forked process would wait in vain."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


def _run(
    trainer: Trainer, arguments: list[str], out: Path, err: Path, journal: Path, max_file_bytes: int | None
) -> None:
    sys.stderr = err.open("w")
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    with signals_end_the_process():  # as while a program is imported
        descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK)
        signal.set_wakeup_fd(descriptor)  # the system's handler writes the number of each signal at once
        sys.stdout = out.open("w")  # says that signals may come
        os.dup2(sys.stderr.fileno(), 2)
        code = program_code(trainer.config_type, trainer.train, arguments)
        os.write(descriptor, _END)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def results(folder: Path) -> dict[str, Any]:
    """Returns what a run has written, by file, without what depends on time and on interruptions.

    Curves and checkpoints are left out. JSON is read without seconds; of weights, the tensors are read.
    """
    contents: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.suffix in (".pt", ".lock") or path.name == ".lock" or "tfevents" in name:
            continue
        if path.suffix == ".json":
            contents[name] = _without_seconds(json.loads(path.read_text()))
        elif path.suffix == ".safetensors":
            contents[name] = {key: value.tobytes() for key, value in load_file(path).items()}
        else:
            contents[name] = path.read_bytes()
    return contents


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seconds(item) for key, item in value.items() if key != "seconds"}
    return value
