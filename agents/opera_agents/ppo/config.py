"""The settings of PPO training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from opera_agents.common.runs import folder_name, run_settings

_RUNTIME_FIELDS = ("out", "threads", "device", "val", "val_every", "val_count", "val_reward", "regret")
"""Settings that may change when a run is resumed."""


@dataclass(frozen=True)
class PPOConfig:
    """Trains the stepwise agent: a warm start by behaviour cloning, then PPO with masked actions."""

    images: Path
    """Folder of clean photographs for training."""
    val: Path | None = None
    """Folder of clean photographs for validation; without one there is no validation."""
    out: Path = Path("runs/ppo")
    """Folder of the run."""
    encoder: Path | None = None
    """Encoder weights to start from: safetensors with the keys encoder.*, such as a detector's."""
    freeze_encoder: bool = False
    """Keep the encoder weights fixed, which makes training about a third faster."""
    warm_start_steps: int = 400
    """Number of gradient steps of the warm start, which clones plausible plans; 0 skips it."""
    warm_start_batch_size: int = 32
    """Number of samples in a gradient step of the warm start."""
    total_timesteps: int = 200_000
    """Total number of environment steps, rounded up to whole rollouts."""
    num_envs: int = 32
    """Number of sub-environments."""
    n_steps: int = 16
    """Number of steps of each sub-environment in a rollout."""
    n_epochs: int = 2
    """Number of epochs over each rollout."""
    batch_size: int = 128
    """Minibatch size."""
    lr: float = 3e-4
    """Peak learning rate, which decays linearly to a tenth."""
    clip_range: float = 0.2
    """PPO clip range."""
    ent_coef: float = 0.01
    """Entropy coefficient."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation. The discount factor gamma is 1, because the rewards of
    an episode add up to its gain of R_q."""
    reward: str = "lite"
    """Reward to maximise: a preset, or module:attribute, a reward of your own; label_free needs no
    references."""
    tool_cost: float = 0.0
    """Cost of each tool, subtracted from R_q."""
    max_tools: int = 6
    """Maximum number of tools in a plan."""
    mask_upscale: bool = False
    """Mask upscaling tools once the image fills its canvas."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    canvas: int = 128
    """Side of the square crops in pixels."""
    obs_size: int = 128
    """Side of the observed images in pixels."""
    observe_original: bool = False
    """Observe the image before the first tool too, which doubles the cost of the encoder."""
    clean_weight: float = 1.5
    """Sampling weight of clean photographs; those with one, two and three degradations have 1, 3 and 5."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations."""
    enlarged: bool = True
    """Train on enlarged copies of some photographs too, which are soft although they are clean."""
    save_every: int = 10
    """Rollouts between checkpoints."""
    val_every: int = 10
    """Rollouts between validations."""
    val_count: int = 48
    """Number of validation samples."""
    val_reward: str | None = None
    """Reward of the validation, named likewise; by default that of the training."""
    regret: bool = False
    """Report the regret on the validation set. The search for its best plans takes minutes."""
    seed: int = 0
    """Seed of all random numbers."""
    threads: int = 2
    """Number of CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the tools and the policy."""

    @property
    def rollouts(self) -> int:
        """Total number of rollouts."""
        return -(-self.total_timesteps // (self.num_envs * self.n_steps))

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths of this machine."""
        return run_settings(
            self,
            exclude=_RUNTIME_FIELDS,
            images=folder_name(self.images),
            toolbox=Path(self.toolbox).name,
            encoder=None if self.encoder is None else self.encoder.name,
        )
