"""How tools are trained under plans, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from opera_agents.common.runs import folder_name, run_settings
from opera_env.cotraining import ExecutionConfig
from opera_env.cotraining.differentiable import Checkpointing
from opera_env.devices import supports_bfloat16

_RUNTIME_FIELDS = ("images", "val", "out", "threads", "workers", "device", "at_once", "checkpointing")


@dataclass(frozen=True)
class CotrainingConfig:
    """How tools are trained under plans."""

    images: Path
    """Folder of clean photographs to train on."""
    val: Path
    """Folder of clean photographs to watch the tools on."""
    out: Path = Path("runs/tools")
    """Everything is written here; the best tools, a toolbox, to OUT/toolbox."""
    toolbox: str = "lite"
    """The tools to begin with: a shipped toolbox, or a folder written by Toolbox.save."""
    tone: Annotated[bool, tyro.conf.FlagConversionOff] = True
    """Give brighteners, which have nothing to train, a tone curve."""
    only: tuple[str, ...] = ()
    """Names of the tools that are trained, all of them if there are none. They learn from rehearsal, from
    idle lessons, which use no others, and from the agent's plans that happen to name them."""
    agent: str = "planner"
    """Whose plans the tools are trained under: an agent's or a search's name, planner:FOLDER for one that
    was trained, or module:attribute."""
    rehearsal: float = 0.4
    """Share of lessons in which one tool repeats what it was made for: without them it forgets."""
    idle: float = 0.2
    """Share of lessons in which nothing is wrong, and one to three tools are used all the same."""
    tool_insertion_prob: float = 0.3
    """Share of the agent's plans into which one more tool, any, is put: the agent will try it one day."""
    random: float = 0.0
    """Share of the agent's photographs that get a random plan of one to three tools instead."""
    control: Annotated[bool, tyro.conf.FlagConversionOff] = False
    """One degradation with one suitable tool instead of plans: what more training alone brings."""
    epochs: int = 20
    """Epochs; after each, validation and a checkpoint."""
    steps_per_epoch: int = 100
    """Steps that make an epoch."""
    batch: int = 16
    """Photographs per step, over all processes."""
    loss: str = "lite"
    """lite, pixel, or paper (which needs VGG, MUSIQ and CLIP weights)."""
    lr: float = 3e-4
    """Peak learning rate; falls to zero by a cosine."""
    warmup: int = 50
    """Steps over which it rises: a first step at the peak shakes networks that were trained."""
    clip: float = 0.5
    """Largest norm of the gradient of all tools of a step together."""
    at_once: int = 8
    """Plans differentiated together: more need more memory."""
    checkpointing: Checkpointing = "auto"
    """Whether what happens inside tools is computed again for the gradients; never is faster, and needs
    memory that grows with the length of plans."""
    autocast: Annotated[bool, tyro.conf.FlagConversionOff] = supports_bfloat16()
    """Compute the tools in bfloat16 while training, where that is fast."""
    ratio: tuple[float, float, float] = (1.0, 3.0, 5.0)
    """Weights of photographs with one, two and three degradations."""
    enlarged: Annotated[bool, tyro.conf.FlagConversionOff] = False
    """Train on enlarged copies of some photographs too."""
    reward: str = "lite"
    """What validation counts as quality."""
    max_tools: int = 6
    """Longest plan."""
    canvas: int = 128
    """Side of the crops."""
    val_count: int = 48
    """Samples of the validation set."""
    seed: int = 0
    threads: int = 2
    """CPU threads of each process."""
    workers: int = 0
    """Processes that make photographs for a GPU that would wait for them; 0 for a thread."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    def settings(self) -> dict[str, Any]:
        """Returns what decides the result, without the places where things lie."""
        return run_settings(
            self,
            exclude=_RUNTIME_FIELDS,
            images=folder_name(self.images),
            toolbox=Path(self.toolbox).name,
            agent=Path(self.agent).name,
        )

    def execution(self) -> ExecutionConfig:
        """Returns what the execution update is told."""
        return ExecutionConfig(
            loss=self.loss,
            lr=self.lr,
            warmup_steps=self.warmup,
            cosine_decay=True,
            max_grad_norm=self.clip,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            micro_batch_size=self.at_once,
            checkpointing=self.checkpointing,
            trainable_tools=self.only,
            autocast=self.autocast,
        )
