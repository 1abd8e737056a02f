"""The settings of critic training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from opera_agents.common.folders import photographs_name
from opera_agents.common.runs import run_settings
from opera_env.devices import supports_bfloat16
from opera_env.runs import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, check_settings


@dataclass(frozen=True)
class CriticConfig:
    """Trains a critic to predict R_q without a reference; missing training data is collected first."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training, all at least as large as the crops; real:FOLDER for damage
    as cameras make it, with --val real:FOLDER too."""
    val: Path
    """Folder of clean photographs for validation, which uses recipes that are held out of the training."""
    out: Path = Path("runs/critic")
    """Folder of the run; its data is in OUT/train and OUT/val."""
    encoder: Path | None = None
    """Encoder weights to start from: safetensors with the keys encoder.*, such as a detector's."""
    shards: PositiveInt = 24
    """Number of shards of training data."""
    samples: PositiveInt = 200
    """Number of samples in a shard, each with about ten images."""
    val_count: PositiveInt = 100
    """Number of validation samples."""
    steps: NonNegativeInt = 6_000
    """Number of training steps. A run that is resumed with more of them is not the run that had them from
    the start: the learning rate follows the new number from there on."""
    photographs_per_batch: PositiveInt = 6
    """Number of photographs in a batch."""
    images_per_photograph: PositiveInt = 4
    """Number of images of each photograph in a batch."""
    crop_size: PositiveInt | None = 96
    """Side of the random crops in pixels; all images of a photograph are cropped at the same place. Crops
    make a step faster and give more different images. None uses whole images."""
    lr: NonNegativeFloat = 2e-3
    """Peak learning rate, which decays to zero by a cosine."""
    warmup_steps: NonNegativeInt = 100
    """Steps of linear warm-up."""
    ranking_coef: NonNegativeFloat = 1.0
    """Coefficient of the ranking loss, which compares the images of a photograph."""
    temperature: PositiveFloat = 0.5
    """Temperature of the ranking loss: the difference in R_q at which one of two images is the better one
    with a probability of 0.73."""
    autocast: bool = supports_bfloat16()
    """Compute in bfloat16 during training; by default where that is fast."""
    val_every: PositiveInt = 500
    """Steps between validations and checkpoints."""
    canvas: PositiveInt = 128
    """Side of the images in pixels."""
    reward: str = "lite"
    """Reward to predict: a preset, or module:attribute, a reward of your own. Its values must be between 0
    and 10."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The training
    recipes and the held-out recipes then contain them too."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    threads: PositiveInt = 1
    """Number of CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the network."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths of this machine."""
        return run_settings(
            self,
            exclude=("out", "device", "threads"),
            images=photographs_name(*self.images),
            val=photographs_name(self.val),
            toolbox=Path(self.toolbox).name,
            encoder=None if self.encoder is None else self.encoder.name,
        )
