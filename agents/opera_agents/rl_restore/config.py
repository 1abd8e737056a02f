"""The settings of deep Q-learning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from opera_agents.common.folders import identify_photographs
from opera_agents.common.runs import run_settings
from opera_env.errors import SettingError
from opera_env.runs import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    check_settings,
    identify_file,
    identify_toolbox,
)
from opera_env.tools import Toolbox

_RUNTIME_FIELDS = ("out", "threads", "device", "val", "val_every", "val_count", "val_reward", "regret")
"""Settings that may change when a run is resumed."""


@dataclass(frozen=True)
class RLRestoreConfig:
    """Trains a stepwise agent by deep Q-learning, with a recurrent state over the tools that were used."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training, all at least as large as the crops; real:FOLDER for damage
    as cameras make it, with --val real:FOLDER too."""
    val: Path | None = None
    """Folder of clean photographs for validation; without one there is no validation."""
    out: Path = Path("runs/rl_restore")
    """Folder of the run."""
    encoder: Path | None = None
    """Encoder weights to start from: safetensors with the keys encoder.*, such as a detector's."""
    freeze_encoder: bool = False
    """Keep the encoder weights fixed. It needs trained ones."""
    total_timesteps: PositiveInt = 100_000
    """Total number of environment steps, rounded up to whole rollouts. Learning rate and exploration follow
    the number, so a resumed run with more steps is not the run that had them from the start."""
    num_envs: PositiveInt = 16
    """Number of sub-environments."""
    n_steps: PositiveInt = 4
    """Number of steps of each sub-environment in a rollout, after which the network is updated."""
    gradient_steps: PositiveInt = 16
    """Number of gradient steps after each rollout."""
    batch_size: PositiveInt = 64
    """Minibatch size."""
    buffer_size: PositiveInt = 10_000
    """Number of transitions in the replay buffer. Two images of each are in memory and in the checkpoint:
    240 MB for 10,000 transitions with images of 64 pixels."""
    learning_starts: NonNegativeInt = 1_000
    """Number of environment steps with random tools before the first update."""
    lr: PositiveFloat = 3e-4
    """Peak learning rate, which decays linearly to a tenth."""
    target_update_interval: PositiveInt = 1_000
    """Environment steps between updates of the target network."""
    exploration_fraction: Probability = 0.5
    """Fraction of the steps over which the probability of random tools falls from 1 to its final value."""
    final_epsilon: Probability = 0.05
    """Final probability of random tools."""
    reward: str = "lite"
    """Reward to maximise: a preset, or module:attribute, a reward of your own; label_free needs no
    references."""
    tool_cost: NonNegativeFloat = 0.0
    """Cost of each tool, subtracted from R_q."""
    max_tools: Annotated[int, Range(1, 64)] = 6
    """Maximum number of tools in a plan."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    obs_size: Annotated[int, Range(1, 1024)] = 64
    """Side of the observed images in pixels, about that of the paper's patches."""
    clean_weight: NonNegativeFloat = 1.5
    """Sampling weight of clean photographs; those with one, two and three degradations have 1, 3 and 5."""
    benchmark_fraction: Annotated[float, Range(0, 0.95)] = 0.5
    """Fraction of the photographs with two and with three degradations that have one of the benchmark's
    combinations; the others have any plausible one."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list."""
    enlarged: bool = True
    """Train on enlarged copies of some photographs too, which are soft although they are clean."""
    save_every: PositiveInt = 100
    """Rollouts between checkpoints."""
    val_every: PositiveInt = 100
    """Rollouts between validations."""
    val_count: PositiveInt = 48
    """Number of validation samples."""
    val_reward: str | None = None
    """Reward of the validation, named likewise; by default that of the training."""
    regret: bool = False
    """Report the regret on the validation set. The search for its best plans takes minutes."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    threads: PositiveInt = 2
    """Number of CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the tools and the policy."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.freeze_encoder and self.encoder is None:
            raise SettingError(
                "freeze_encoder", True, "trained weights that stay fixed, from --encoder FILE"
            )
        if self.buffer_size < self.num_envs:
            expected = f"at least {self.num_envs}, one transition for each sub-environment"
            raise SettingError("buffer_size", self.buffer_size, expected)

    @property
    def mask_upscale(self) -> bool:
        """Whether tools are masked: Q-learning of Stable-Baselines3 knows no masks."""
        return False

    @property
    def observe_original(self) -> bool:
        """Whether the image before the first tool is observed; the paper's agent does not."""
        return False

    @property
    def rollouts(self) -> int:
        """Total number of rollouts."""
        return -(-self.total_timesteps // (self.num_envs * self.n_steps))

    def settings(self, toolbox: Toolbox) -> dict[str, Any]:
        """Returns the settings that determine the result, with the content of what the run was given.

        Args:
            toolbox: The tools that were loaded.

        Raises:
            SampleError: If the folder of photographs does not exist or holds none.
            FileNotFoundError: If there is no such encoder.
        """
        return run_settings(
            self,
            exclude=_RUNTIME_FIELDS,
            images=identify_photographs(*self.images),
            toolbox=identify_toolbox(self.toolbox, toolbox.fingerprint),
            encoder=identify_file(self.encoder),
        )
