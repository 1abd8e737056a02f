"""The settings of the detector's trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from opera_env.devices import supports_bfloat16
from opera_env.encoder import EncoderKind
from opera_env.runs import NonNegativeFloat, NonNegativeInt, PositiveInt, Range, check_settings


@dataclass(frozen=True)
class DetectorConfig:
    """Trains the degradation detector, whose encoder the planner, PPO and the critic share."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training. Each is used for the crops that all its photographs can be
    cut to. real:FOLDER for damage as cameras make it, with --val real:FOLDER too."""
    val: Path
    """Folder of clean photographs for validation."""
    out: Path = Path("runs/detector")
    """Folder of the run: settings, checkpoints, curves, and the trained detector."""
    initial_weights: Path | None = None
    """Initial weights of a detector: detector.safetensors of another run. By default they are random."""
    encoder: EncoderKind = "image"
    """What the detector sees: image, all of a crop at once; windows-1, windows at full resolution and an
    overview, for photographs of any size."""
    steps: NonNegativeInt = 20_000
    """Number of gradient steps."""
    batch_size: PositiveInt = 32
    """Number of samples in a step."""
    lr: NonNegativeFloat = 1e-3
    """Peak learning rate, reached after 200 steps; it decays to zero along a cosine."""
    weight_decay: NonNegativeFloat = 0.01
    """Weight decay of AdamW."""
    crop_sizes: Annotated[tuple[int, ...], Range(16)] = (128, 128, 192, 256)
    """Sides of the square crops in pixels; each step draws one, so that repeated ones are more frequent.
    Larger crops come in proportionally smaller batches."""
    clean_weight: NonNegativeFloat = 1.5
    """Sampling weight of clean photographs, relative to degradation_count_weights."""
    degradation_count_weights: Annotated[tuple[float, float, float], Range(0)] = (1.0, 3.0, 5.0)
    """Sampling weights of photographs with one, two and three degradations."""
    enlarged: bool = True
    """Train on enlarged copies of some photographs too, which are soft although they are clean."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list."""
    autocast: bool = supports_bfloat16()
    """Compute in bfloat16; by default where that is fast."""
    val_every: PositiveInt = 1_000
    """Steps between validations; each also writes a checkpoint."""
    val_count: PositiveInt = 320
    """Number of validation samples, with the benchmark's recipes."""
    calibration_count: PositiveInt = 640
    """Number of samples of training photographs on which thresholds are chosen."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    threads: PositiveInt = 1
    """Number of CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the detector."""

    def __post_init__(self) -> None:
        check_settings(self)
