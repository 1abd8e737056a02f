"""Planning and execution in turn: tools under the planner's plans, then the planner on the new tools.

Example:
    python -m opera_agents.joint --images bsds500/train --val bsds500/val --out runs/joint
    python -m opera_agents.joint --images ... --val ... --rounds 4 --epochs 5 --updates 50
    accelerate launch --num_processes 2 -m opera_agents.joint --images ... --val ...

One round is the paper's order, after a planner that is there: tools, then the planner once more. Several
rounds alternate. Interrupt it at any time: the same command goes on from the last checkpoint. ``tensorboard
--logdir OUT`` shows what both earn, as val/reward, on one page; the last round's folders hold the tools
(``N-tools/toolbox``) and the planner (``N-planner``).

Source: sections 4.2 and 4.3 of the paper, whose stages follow each other once. Departure: they may
    alternate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter

from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.cotraining.train import train as train_tools
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.saved import SHIPPED
from opera_agents.planner.train import train as train_planner


@dataclass(frozen=True)
class JointConfig:
    """How planning and execution are trained in turn; the rest is as in their own trainers."""

    images: Path
    """Folder of clean photographs to train on."""
    val: Path
    """Folder of clean photographs to watch both on."""
    out: Path = Path("runs/joint")
    """Everything is written here."""
    toolbox: str = "lite"
    """The tools to begin with: a shipped toolbox, or a folder written by Toolbox.save."""
    planner: Path = SHIPPED
    """Folder of the planner to begin with."""
    rounds: int = 1
    """How often both are trained: 1 is the paper's order, more alternate."""
    epochs: int = 20
    """Epochs of the tools in each round."""
    steps_per_epoch: int = 100
    """Steps that make an epoch."""
    batch: int = 16
    """Photographs per step of the tools, over all processes."""
    loss: str = "lite"
    """What tools are trained on: lite, pixel or paper."""
    tools_lr: float = 3e-4
    """Peak learning rate of the tools."""
    updates: int = 100
    """Updates of the planner in each round."""
    photographs: int = 24
    """Photographs per update of the planner."""
    planner_lr: float = 2e-4
    """Peak learning rate of the planner."""
    reward: str = "lite"
    """What counts as quality."""
    max_tools: int = 6
    """Longest plan."""
    canvas: int = 128
    """Side of the crops."""
    val_count: int = 48
    """Samples of the validation set."""
    seed: int = 0
    threads: int = 2
    """CPU threads of each process."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


def train(config: JointConfig) -> list[float]:
    """Trains both; returns the validation reward after every phase.

    Raises:
        AgentError: If the folder holds another run.
        ToolboxMismatchError: If the planner was trained for other tools.
    """
    processes = PartialState(cpu=config.device == "cpu")
    toolbox, planner, earned = config.toolbox, config.planner, list[float]()
    for number in range(1, config.rounds + 1):
        tools = tools_config(config, number, toolbox, planner)
        earned.append(train_tools(tools).reward)
        toolbox = str(tools.out / "toolbox")
        tuned = planner_config(config, number, toolbox, planner)
        if processes.is_main_process:  # it plans for all; its tools run in its own threads
            earned.append(train_planner(tuned).reward)
        processes.wait_for_everyone()
        planner = tuned.out
    if processes.is_main_process:
        with SummaryWriter(str(config.out)) as writer:
            for phase, reward in enumerate(earned, start=1):
                writer.add_scalar("joint/reward", reward, phase)
    return earned


def tools_config(config: JointConfig, number: int, toolbox: str, planner: Path) -> CotrainingConfig:
    """Returns the settings of a round's tools."""
    return CotrainingConfig(
        images=config.images,
        val=config.val,
        out=config.out / f"{number}-tools",
        toolbox=toolbox,
        agent=f"planner:{planner}",
        epochs=config.epochs,
        steps_per_epoch=config.steps_per_epoch,
        batch=config.batch,
        loss=config.loss,
        lr=config.tools_lr,
        reward=config.reward,
        max_tools=config.max_tools,
        canvas=config.canvas,
        val_count=config.val_count,
        seed=config.seed + 1_000 * number,
        threads=config.threads,
        device=config.device,
    )


def planner_config(config: JointConfig, number: int, toolbox: str, planner: Path) -> PlannerConfig:
    """Returns the settings of a round's planner, which starts from the one before."""
    return PlannerConfig(
        images=config.images,
        val=config.val,
        out=config.out / f"{number}-planner",
        start=planner / "planner.safetensors",
        updates=config.updates,
        photographs=config.photographs,
        lr=config.planner_lr,
        reward=config.reward,
        max_tools=config.max_tools,
        toolbox=toolbox,
        canvas=config.canvas,
        val_count=config.val_count,
        seed=config.seed + 1_000 * number,
        threads=config.threads,
        device=config.device,
    )


if __name__ == "__main__":
    train(tyro.cli(JointConfig))
