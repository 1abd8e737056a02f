"""Settings of the warm start of a vision-language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from opera_agents.common.runs import run_settings
from opera_agents.vlm.saved import identify_model
from opera_env.errors import SettingError
from opera_env.runs import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Range,
    check_settings,
    identify_file,
    identify_images,
    identify_toolbox,
    identify_weights,
)
from opera_env.tools import Toolbox

TINY_SYSTEM_PROMPT = "Restore this photograph."
"""The system prompt of tiny models, which is short because a long one would take most of their time.

A trained model keeps the prompt of its training in its card; the shipped one has another. Larger models get
the whole system prompt.
"""


@dataclass(frozen=True)
class VLMWarmStartConfig:
    """Fine-tunes a vision-language model on answers, so that GRPO has answers to reward."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training, all at least as large as the crops."""
    val: Path
    """Folder of clean photographs for validation."""
    out: Path = Path("runs/vlm-warm")
    """Folder of the run; the model is saved in OUT/model."""
    model: Path | None = None
    """Folder of a model and its processor to start from; by default a tiny model is built."""
    encoder: Path | None = None
    """Trained image encoder with which the tiny model sees: planner.safetensors of a planner, or
    detector.safetensors. It is not trained further. Without it the model gets a vision transformer, and
    learns to see from random weights."""
    answer_kind: Literal["labelled", "format", "turns"] = "labelled"
    """labelled: answers name the true degradations. format: answers are independent of the photograph, so
    that they teach the format alone. turns: conversations in which functions are called that apply one tool
    after the other and show the result of each, and that name the true degradations at the end."""
    planner: Path | None = None
    """Folder of a planner whose plans the answers have; by default their plans have one matched tool for
    each degradation."""
    undo_prob: Probability = 0.1
    """Probability, in conversations with turns, that a tool that fits no degradation is applied, which the
    model is not to learn, and then taken back, which it is."""
    system_prompt_file: Path | None = None
    """File of the system prompt; by default a short one for tiny models."""
    steps: NonNegativeInt = 600
    """Number of gradient steps. A run that is resumed with more of them is not the run that had them from
    the start: the learning rate follows the new number from there on."""
    batch_size: PositiveInt = 32
    """Number of samples in a gradient step."""
    lr: NonNegativeFloat = 2e-3
    """Peak learning rate."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    max_tools: Annotated[int, Range(1, 64)] = 6
    """Maximum number of tools in a plan."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    clean_weight: NonNegativeFloat = 1.5
    """Sampling weight of clean photographs; those with one, two and three degradations have 1, 3 and 5."""
    benchmark_fraction: Annotated[float, Range(0, 0.95)] = 0.5
    """Fraction of the photographs with two and with three degradations that have one of the benchmark's
    combinations; the others have any plausible one."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations, and answers name them."""
    reward: str = "lite"
    """Reward of the validation: a preset, or module:attribute, a reward of your own."""
    val_count: PositiveInt = 48
    """Number of validation samples."""
    save_every: PositiveInt = 100
    """Steps between checkpoints."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    threads: PositiveInt = 2
    """Number of CPU threads."""
    workers: NonNegativeInt = 0
    """Number of processes that prepare batches, for a GPU that one thread cannot keep busy; 0 uses one
    thread."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the model."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.encoder is not None and self.model is not None:
            raise SettingError("encoder", self.encoder, "no encoder, since the --model has its own")
        if self.planner is not None and self.answer_kind == "format":
            expected = "no planner, since answers of the kind format do not depend on the photograph"
            raise SettingError("planner", self.planner, expected)

    def settings(self, toolbox: Toolbox) -> dict[str, Any]:
        """Returns the settings that determine the result, with the content of what the run was given.

        Args:
            toolbox: The tools that were loaded.

        Raises:
            SampleError: If a folder of photographs does not exist or holds none.
            FileNotFoundError: If there is no such system prompt or encoder.
        """
        return run_settings(
            self,
            exclude=("val", "out", "system_prompt_file", "threads", "workers", "device", "val_count"),
            images=identify_images(*self.images),
            model=identify_model(self.model),
            encoder=identify_file(self.encoder),
            planner=None if self.planner is None else identify_weights(self.planner),
            toolbox=identify_toolbox(self.toolbox, toolbox.fingerprint),
            undo_prob=self.undo_prob if self.turns else None,
            system_prompt=self.system_prompt,
        )

    @property
    def turns(self) -> bool:
        """Whether the model is trained to call functions turn by turn."""
        return self.answer_kind == "turns"

    @property
    def system_prompt(self) -> str:
        """The system prompt."""
        return (
            TINY_SYSTEM_PROMPT if self.system_prompt_file is None else self.system_prompt_file.read_text()
        )
