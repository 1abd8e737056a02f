"""How the stepwise agent is trained, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from opera_agents.common.runs import folder_name, run_settings

_RUNTIME_FIELDS = ("out", "threads", "device", "val", "val_every", "val_count", "val_reward", "regret")
"""Settings that may change between the parts of one run."""


@dataclass(frozen=True)
class PPOConfig:
    """How the stepwise agent is trained."""

    images: Path
    """Folder of clean photographs to train on."""
    val: Path | None = None
    """Folder of clean photographs to watch it on."""
    out: Path = Path("runs/ppo")
    """Everything is written here."""
    encoder: Path | None = None
    """Encoder weights to start from: safetensors with the keys encoder.*, as the detector's."""
    freeze: Annotated[bool, tyro.conf.FlagConversionOff] = False
    """Leave that encoder as it is, which saves a third of the time."""
    warm_steps: int = 400
    """Steps of the warm start, in which sensible plans are imitated; 0 for none."""
    warm_batch: int = 32
    """Photographs per step of the warm start."""
    steps: int = 200_000
    """Environment steps in all, rounded up to whole rollouts."""
    num_envs: int = 32
    """Games played at once."""
    n_steps: int = 16
    """Steps per game and rollout."""
    epochs: int = 2
    """Times each rollout is learned from."""
    batch: int = 128
    """Steps per gradient."""
    lr: float = 3e-4
    """Peak learning rate; falls linearly to a tenth."""
    clip: float = 0.2
    """How far the ratio may leave 1."""
    entropy: float = 0.01
    """Weight of the entropy of the next tool."""
    gae_lambda: float = 0.95
    """Trade-off of bias for variance. There is no discount: gains add up to the quality of the result."""
    reward: str = "lite"
    """What counts as quality; label_free needs no references."""
    tool_cost: float = 0.0
    """Taken from the reward per tool."""
    max_tools: int = 6
    """Longest plan."""
    mask_upscale: Annotated[bool, tyro.conf.FlagConversionOff] = False
    """Forbid enlarging tools once the image fills its canvas."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    canvas: int = 128
    """Side of the crops."""
    obs_size: int = 128
    """Side of the images that the policy sees."""
    original: Annotated[bool, tyro.conf.FlagConversionOff] = False
    """Look at the first image too, which costs as much again."""
    clean: float = 1.5
    """Weight of clean photographs, beside 1, 3 and 5 of those with one, two and three degradations."""
    enlarged: Annotated[bool, tyro.conf.FlagConversionOff] = True
    """Train on enlarged copies of some photographs too, which are soft and nevertheless clean."""
    save_every: int = 10
    """Rollouts between checkpoints: what a kill loses at most."""
    val_every: int = 10
    """Rollouts between validations."""
    val_count: int = 48
    """Samples of the validation set."""
    val_reward: str | None = None
    """What validation is judged by; the reward by default."""
    regret: Annotated[bool, tyro.conf.FlagConversionOff] = False
    """Search the best plans of the validation set, which takes minutes, and watch the distance to them."""
    seed: int = 0
    threads: int = 2
    """CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def rollouts(self) -> int:
        """How many rollouts there are in all."""
        return -(-self.steps // (self.num_envs * self.n_steps))

    def settings(self) -> dict[str, Any]:
        """Returns what decides the result, without the places where things lie."""
        return run_settings(
            self,
            exclude=_RUNTIME_FIELDS,
            images=folder_name(self.images),
            toolbox=Path(self.toolbox).name,
            encoder=None if self.encoder is None else self.encoder.name,
        )
