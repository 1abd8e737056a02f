"""Trains tools and planner in turn: the tools under the planner's plans, then the planner with the new
tools.

Example:
    python -m opera_agents.joint --images bsds500/train --val bsds500/val --out runs/joint
    python -m opera_agents.joint --images ... --val ... --rounds 4 --epochs 5 --updates 50
    accelerate launch --num_processes 2 -m opera_agents.joint --images ... --val ...

One round, which starts with a trained planner, is the order of the paper: the tools, then the planner once
more. Several rounds alternate. A run may be interrupted at any time: the same command resumes it from the
last checkpoint. ``tensorboard --logdir OUT`` shows the rewards of all phases, as val/reward, on one page.
The last round's folders hold the tools (``N-tools/toolbox``) and the planner (``N-planner``).

Source: sections 4.2 and 4.3 of the paper, where each is trained once. Departure: they may alternate.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.folders import (
    check_validation,
    identify_photographs,
    load_custom_degradations,
)
from opera_agents.common.photographs import check_photographs
from opera_agents.common.runs import run_settings
from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.cotraining.train import train as train_tools
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.saved import SHIPPED, load_policy
from opera_agents.planner.train import train as train_planner
from opera_env.cli.program import run_program
from opera_env.encoder import EncoderKind
from opera_env.reward import get_reward
from opera_env.runs import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    check_settings,
    claim_run_dir,
    describe_progress,
    identify_toolbox,
    identify_weights,
)
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class JointConfig:
    """Trains tools and planner in turn; other settings have the defaults of the two trainers."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training, all at least as large as the crops; real:FOLDER for damage
    as cameras make it, with --val real:FOLDER too."""
    val: Path
    """Folder of clean photographs for validation."""
    out: Path = Path("runs/joint")
    """Folder of the run; each phase has a folder in it."""
    toolbox: str = "lite"
    """Initial tools: name of a shipped toolbox, or a folder written by Toolbox.save."""
    planner: Path = SHIPPED
    """Folder of the initial planner."""
    rounds: PositiveInt = 1
    """Number of rounds; 1 is the order of the paper, more alternate."""
    epochs: PositiveInt = 20
    """Number of epochs of the tools in each round."""
    steps_per_epoch: PositiveInt = 100
    """Number of steps in an epoch."""
    tools_batch_size: PositiveInt = 16
    """Number of training examples in a step of the tools, over all processes."""
    loss: str = "lite"
    """Loss preset of the tools: lite, pixel, or paper, which needs the weights of VGG, MUSIQ and CLIP."""
    tools_lr: NonNegativeFloat = 3e-4
    """Peak learning rate of the tools."""
    updates: NonNegativeInt = 100
    """Number of GRPO updates of the planner in each round."""
    planner_batch_size: PositiveInt = 24
    """Number of samples in an update of the planner."""
    planner_lr: NonNegativeFloat = 2e-4
    """Peak learning rate of the planner."""
    reward: str = "lite"
    """Reward that computes R_q: a preset, or module:attribute, a reward of your own."""
    max_tools: PositiveInt = 6
    """Maximum number of tools in a plan."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    val_count: PositiveInt = 48
    """Number of validation samples."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    threads: PositiveInt = 2
    """Number of CPU threads of each process."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the tools and the policy."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths of this machine."""
        return run_settings(
            self,
            exclude=("out", "threads", "device"),
            images=identify_photographs(*self.images),
            val=identify_photographs(self.val),
            toolbox=identify_toolbox(
                self.toolbox, Toolbox.load(self.toolbox, trust_code=self.trust_code).fingerprint
            ),
            planner=identify_weights(self.planner),
        )


def train(config: JointConfig) -> list[float]:
    """Trains tools and planner in turn; returns the validation reward after each phase.

    Raises:
        RunError: If another run trains in the folder, or the folder holds a run with other settings, of
            more rounds, or with damaged files.
        ToolboxMismatchError: If the planner was trained for other tools.
    """
    processes = PartialState(cpu=config.device == "cpu")
    load_policy(config.planner)[1].check(Toolbox.load(config.toolbox, trust_code=config.trust_code))
    load_custom_degradations(config.images, config.degradations)
    check_validation(config.images, config.val)
    get_reward(config.reward)
    check_photographs(config.images, [config.canvas])
    settings, progress = config.settings(), describe_progress(config.out, *count_rounds(config), "rounds")
    with ExitStack() as stack:
        if processes.is_main_process:
            stack.enter_context(claim_run_dir(config.out, settings, mutable=("rounds",)))
            if progress is not None:
                print(progress)
        return run_rounds(config, processes)


def count_rounds(config: JointConfig) -> tuple[int, int]:
    """Returns the number of finished rounds in the folder of a run, and the number of all rounds."""
    finished = 0
    while (config.out / f"{finished + 1}-planner" / "planner.json").is_file():
        finished += 1
    return finished, config.rounds


def run_rounds(config: JointConfig, processes: PartialState) -> list[float]:
    """Runs the phases of all rounds in the folder of a run; finished phases are validated again.

    Returns:
        The validation reward after each phase.
    """
    toolbox, planner, rewards = config.toolbox, config.planner, list[float]()
    for round_index in range(1, config.rounds + 1):
        tools_settings = tools_config(config, round_index, toolbox, planner)
        rewards.append(train_tools(tools_settings).reward)
        toolbox = str(tools_settings.out / "toolbox")
        planner_settings = planner_config(config, round_index, toolbox, planner)
        if processes.is_main_process:  # The planner is trained by one process, whose threads run the tools.
            rewards.append(train_planner(planner_settings).reward)
        processes.wait_for_everyone()
        planner = planner_settings.out
    if processes.is_main_process:
        with SummaryWriter(str(config.out), purge_step=1) as writer:
            for phase, reward in enumerate(rewards, start=1):
                writer.add_scalar("joint/reward", reward, phase)
    return rewards


def tools_config(config: JointConfig, round_index: int, toolbox: str, planner: Path) -> CotrainingConfig:
    """Returns the settings with which a round trains the tools."""
    return CotrainingConfig(
        images=config.images,
        val=config.val,
        out=config.out / f"{round_index}-tools",
        toolbox=toolbox,
        trust_code=config.trust_code,
        agent=f"planner:{planner}",
        epochs=config.epochs,
        steps_per_epoch=config.steps_per_epoch,
        batch_size=config.tools_batch_size,
        loss=config.loss,
        lr=config.tools_lr,
        reward=config.reward,
        max_tools=config.max_tools,
        canvas=config.canvas,
        val_count=config.val_count,
        degradations=config.degradations,
        seed=config.seed + 1_000 * round_index,
        threads=config.threads,
        device=config.device,
    )


def planner_config(config: JointConfig, round_index: int, toolbox: str, planner: Path) -> PlannerConfig:
    """Returns the settings with which a round trains the planner, starting from the previous planner."""
    return PlannerConfig(
        images=config.images,
        val=config.val,
        out=config.out / f"{round_index}-planner",
        initial_weights=planner / "planner.safetensors",
        encoder=cast(EncoderKind, load_policy(planner)[1].encoder),
        updates=config.updates,
        batch_size=config.planner_batch_size,
        lr=config.planner_lr,
        reward=config.reward,
        max_tools=config.max_tools,
        toolbox=toolbox,
        trust_code=config.trust_code,
        canvas=config.canvas,
        val_count=config.val_count,
        degradations=config.degradations,
        seed=config.seed + 1_000 * round_index,
        threads=config.threads,
        device=config.device,
    )


if __name__ == "__main__":
    run_program(JointConfig, train)
