"""The settings of the co-training of tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from opera_agents.common.folders import photographs_name
from opera_agents.common.runs import run_settings
from opera_env.cotraining import ExecutionConfig
from opera_env.cotraining.differentiable import Checkpointing
from opera_env.devices import supports_bfloat16
from opera_env.runs import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    check_settings,
)

_RUNTIME_FIELDS = ("val", "out", "threads", "workers", "device", "micro_batch_size", "checkpointing")
"""Settings that do not change the result."""


@dataclass(frozen=True)
class CotrainingConfig:
    """Trains the tools of a toolbox together, under the plans of an agent."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training, all at least as large as the crops; real:FOLDER for damage
    as cameras make it, with --val real:FOLDER too."""
    val: Path
    """Folder of clean photographs for validation."""
    out: Path = Path("runs/tools")
    """Folder of the run; the best tools are in OUT/toolbox."""
    toolbox: str = "lite"
    """Initial tools: name of a shipped toolbox, or a folder written by Toolbox.save."""
    add_tone_curves: bool = True
    """Give each brightener, which has no parameters, a trainable tone curve."""
    trainable_tools: tuple[str, ...] = ()
    """Names of the tools that are trained; by default all with parameters. They learn from rehearsal, from
    misuse, which then uses no other tools, and from the agent's plans that contain them."""
    agent: str = "planner"
    """The agent under whose plans the tools are trained: name of an agent or search, planner:FOLDER for a
    trained one, or module:attribute."""
    rehearsal_prob: Probability = 0.4
    """Probability of a rehearsal example, in which a tool repeats its original training task, so that it
    does not forget the task."""
    misuse_prob: Probability = 0.2
    """Probability of a misuse example, in which one to three random tools run on a clean photograph, which
    they should leave unchanged."""
    tool_insertion_prob: Probability = 0.3
    """Probability that a random tool is inserted into the agent's plan, so that the tools can cope with
    plans that the agent does not predict yet."""
    random_plan_prob: Probability = 0.0
    """Probability that a random plan of one to three tools replaces the agent's plan."""
    adapt_alone: bool = False
    """Train each tool alone, with one matched tool for one degradation instead of plans: the control, which
    shows what further training brings without plans."""
    epochs: PositiveInt = 20
    """Number of epochs; each ends with a validation and a checkpoint. A run that is resumed with more of
    them is not the run that had them from the start: the learning rate follows the new number from then."""
    steps_per_epoch: PositiveInt = 100
    """Number of steps in an epoch."""
    batch_size: PositiveInt = 16
    """Number of training examples in a step, over all processes."""
    loss: str = "lite"
    """Loss preset: lite, pixel, or paper, which needs the weights of VGG, MUSIQ and CLIP."""
    lr: NonNegativeFloat = 3e-4
    """Peak learning rate, which decays to zero by a cosine."""
    warmup_steps: NonNegativeInt = 50
    """Steps of linear warm-up, which protects trained networks from large first steps."""
    max_grad_norm: PositiveFloat = 0.5
    """Gradient clipping: largest norm of the gradient of all tools of a step together."""
    micro_batch_size: PositiveInt = 8
    """Number of plans that are differentiated together; a larger number needs more memory and less time."""
    checkpointing: Checkpointing = "auto"
    """Gradient checkpointing: whether activations inside the tools are computed again instead of kept;
    never is fastest, with memory that grows with the length of the plans."""
    autocast: bool = supports_bfloat16()
    """Compute in bfloat16 during training; by default where that is fast."""
    degradation_count_weights: Annotated[tuple[float, float, float], Range(0)] = (1.0, 3.0, 5.0)
    """Sampling weights of photographs with one, two and three degradations."""
    benchmark_fraction: Annotated[float, Range(0, 0.95)] = 0.5
    """Fraction of the photographs with two and with three degradations that have one of the benchmark's
    combinations; the others have any plausible one."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations."""
    enlarged: bool = False
    """Train on enlarged copies of some photographs too, which are soft although they are clean."""
    reward: str = "lite"
    """Reward of the validation: a preset, or module:attribute, a reward of your own."""
    max_tools: PositiveInt = 6
    """Maximum number of tools in a plan."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    val_count: PositiveInt = 48
    """Number of validation samples."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    threads: PositiveInt = 2
    """Number of CPU threads of each process."""
    workers: NonNegativeInt = 0
    """Number of processes that prepare batches, for a GPU that one thread cannot keep busy; 0 uses one
    thread."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the tools."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths of this machine."""
        return run_settings(
            self,
            exclude=_RUNTIME_FIELDS,
            images=photographs_name(*self.images),
            toolbox=Path(self.toolbox).name,
            agent=Path(self.agent).name,
        )

    def update_config(self) -> ExecutionConfig:
        """Returns the settings of the execution update."""
        return ExecutionConfig(
            loss=self.loss,
            lr=self.lr,
            warmup_steps=self.warmup_steps,
            cosine_decay=True,
            max_grad_norm=self.max_grad_norm,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            micro_batch_size=self.micro_batch_size,
            checkpointing=self.checkpointing,
            trainable_tools=self.trainable_tools,
            autocast=self.autocast,
        )
