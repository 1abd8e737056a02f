"""The settings of training and packing tools; the help of the command line needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import tyro

from opera_env.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    check_multiple,
    check_settings,
)

Pool: TypeAlias = Literal["lite", "lite-adapted", "all-in-one", "real"]
"""``lite``: trained on data like those of the published networks. ``lite-adapted``: on the degradations of
the benchmark. ``all-in-one``: one tool, trained on the recipes of one to three degradations. ``real``: on
damage as cameras, weather and the web make it."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training of one tool of the lite toolboxes."""

    tool: tyro.conf.Positional[str]
    """Name of the tool; opera_env/tool_training has a file with the tools of each pool."""
    images: tuple[Path, ...]
    """Folders of clean photographs for training, with sides of at least 128 pixels."""
    val: Path
    """Folder of clean photographs for validation."""
    pool: Pool = "lite"
    """Data that the tool is trained on: lite, data like those of the published networks; lite-adapted, the
    degradations of the benchmark; all-in-one, recipes of one to three degradations of the benchmark; real,
    damage as cameras, weather and the web make it, and a third of photographs without any."""
    initial_toolbox: str | None = None
    """Shipped toolbox or folder whose tools give the tools of the pool real their initial weights; lite by
    default."""
    zero_reference: NonNegativeFloat | None = None
    """Factor of the terms without reference in the loss of tools with tone curves: 1 by default, and 0
    leaves them out."""
    out: Path = Path("runs/lite")
    """Output folder; all files are written to OUT/TOOL."""
    steps: PositiveInt | None = None
    """Number of training steps; by default that of the tool. A run that is resumed with more of them is not
    the run that had them from the start: the learning rate follows the new number from there on."""
    lr: NonNegativeFloat | None = None
    """Peak learning rate; by default that of the tool."""
    warmup_steps: NonNegativeInt = 200
    """Steps of linear warm-up, before the cosine decay."""
    val_every: PositiveInt = 2000
    """Steps between validations; each also writes a checkpoint."""
    val_side: PositiveInt = 128
    """Side of the validation crops in pixels, a multiple of 8."""
    seed: NonNegativeInt = 0
    """Seed of the patches, the degradations and the initial weights."""
    threads: PositiveInt = 1
    """Number of CPU threads. Several trainings side by side with one thread each use a CPU best."""
    device: str = "auto"
    """cpu, cuda or auto."""
    autocast: bool = True
    """Compute in bfloat16 during training where that is fast. Weights and validation stay float32."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_multiple("val_side", self.val_side, 8)  # networks halve images up to three times


@dataclass(frozen=True)
class PackConfig:
    """Packs the tools that `opera-env tools train` has written into a lite toolbox, as float16."""

    runs: Path = Path("runs/lite")
    """Folder with one folder for each trained tool."""
    out: Path = Path("runs/toolbox")
    """Toolbox folder to write; Toolbox.load(OUT) loads it."""
    pool: Pool = "lite"
    """The pool that the tools were trained for; see `opera-env tools train --help`."""
    base: str | None = None
    """Toolbox from which tools without a folder in RUNS are taken; without it, such tools are an error."""
