"""The trainers with settings that take seconds, run in forked processes, which need no time to start."""

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
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.numpy import load_file

from opera_agents import joint
from opera_agents.cotraining import train as cotraining
from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.critic import train as critic
from opera_agents.critic.config import CriticConfig
from opera_agents.planner import reward_table
from opera_agents.planner import train as planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.saved import PolicyCard, save_policy
from opera_baselines import fit_recipe_best
from opera_env.cli.program import program_code
from opera_env.signals import signals_end_the_process
from opera_env.tool_training import train as tool_training
from opera_env.tool_training.config import TrainConfig
from opera_env.tools import Toolbox
from tests.faults.processes import Ended


@dataclass(frozen=True)
class Trainer:
    """A trainer and settings with which it is fast.

    Attributes:
        config_type: Dataclass of the settings.
        train: The trainer.
        options: Its command line, with the places ``{images}``, ``{toolbox}`` and ``{planner}``.
        out: What it writes to, in the folder of a test.
        folder: The folder of the run, in the folder of a test.
    """

    config_type: type[Any]
    train: Callable[[Any], object]
    options: str
    out: str = "run"
    folder: str = "run"

    def arguments(self, inputs: Inputs, root: Path) -> list[str]:
        """Returns the command line of a run in a folder."""
        places = {"images": inputs.images, "toolbox": inputs.toolbox, "planner": inputs.planner}
        return [*(word.format(**places) for word in self.options.split()), "--out", str(root / self.out)]

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
    """

    images: Path
    toolbox: Path
    planner: Path


class Run:
    """A run of a trainer in a forked process."""

    def __init__(
        self, trainer: Trainer, arguments: Sequence[str], root: Path, max_file_bytes: int | None
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        number = len(list(root.parent.glob(f"{root.name}-*.out")))
        self.out = root / trainer.out
        self._stdout, self._stderr = (
            root.with_name(f"{root.name}-{number}.{suffix}") for suffix in ("out", "err")
        )
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(trainer, list(arguments), self._stdout, self._stderr, max_file_bytes)
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


def _run(trainer: Trainer, arguments: list[str], out: Path, err: Path, max_file_bytes: int | None) -> None:
    sys.stderr = err.open("w")
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    with signals_end_the_process():  # as while a program is imported
        sys.stdout = out.open("w")  # says that signals may come
        os.dup2(sys.stderr.fileno(), 2)
        code = program_code(trainer.config_type, trainer.train, arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_SMALL = "--images {images} --toolbox {toolbox} --reward classic --canvas 64 --threads 1"

TRAINERS = {
    "planner": Trainer(
        PlannerConfig,
        planner.train,
        f"{_SMALL} --val {{images}} --warm-start-steps 2 --warm-start-batch-size 2 --updates 4 "
        "--batch-size 2 --group-size 2 --n-epochs 1 --max-tools 2 --save-every 1 --val-every 2 "
        "--val-count 2 --device cpu --no-autocast",
    ),
    "critic": Trainer(
        CriticConfig,
        critic.train,
        f"{_SMALL} --val {{images}} --shards 2 --samples 3 --val-count 3 --steps 4 --val-every 1 "
        "--crop-size 48 --photographs-per-batch 2 --images-per-photograph 2 --device cpu --no-autocast",
    ),
    "reward table": Trainer(
        reward_table.RewardTableConfig,
        reward_table.collect,
        f"{_SMALL} --shards 4 --samples 2 --candidates 4 --refined 1 --max-tools 2",
    ),
    "cotraining": Trainer(
        CotrainingConfig,
        cotraining.train,
        f"{_SMALL} --val {{images}} --agent matched --epochs 4 --steps-per-epoch 1 --batch-size 2 "
        "--loss pixel --max-tools 2 --val-count 2 --device cpu --no-autocast",
    ),
    "joint": Trainer(
        joint.JointConfig,
        joint.train,
        f"{_SMALL} --val {{images}} --planner {{planner}} --epochs 2 --steps-per-epoch 1 "
        "--tools-batch-size 2 --loss pixel --updates 2 --planner-batch-size 1 --max-tools 2 --val-count 2 "
        "--device cpu",
    ),
    "tool": Trainer(
        TrainConfig,
        tool_training.train,
        "unet.denoise --images {images} --val {images} --steps 3 --val-every 1 --val-side 32 --threads 1 "
        "--device cpu --no-autocast",
        folder="run/unet.denoise",
    ),
    "recipe_best": Trainer(
        fit_recipe_best.FitConfig,
        fit_recipe_best.fit,
        "--images {images} --toolbox {toolbox} --reward classic --recipes noise jpeg noise+jpeg "
        "--images-per-recipe 1 --max-tools 2 --threads 1",
        out="run/plans.json",
    ),
}
"""The trainers by name."""


def make_inputs(images: Path, toolbox: Path, folder: Path) -> Inputs:
    """Makes the inputs of all trainers: a planner with random weights for a toolbox."""
    tools = Toolbox.load(toolbox)
    card = PolicyCard(tools.signature, tools.names, max_tools=2)
    save_policy(card.build(), card, folder / "planner")
    return Inputs(images, toolbox, folder / "planner")


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
