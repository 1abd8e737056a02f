"""The settings of PPO training."""

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
    identify_weights,
)
from opera_env.tools import Toolbox

_RUNTIME_FIELDS = ("out", "threads", "device", "val", "val_every", "val_count", "val_reward", "regret")
"""Settings that may change when a run is resumed."""


@dataclass(frozen=True)
class PPOConfig:
    """Trains the stepwise agent: a warm start by behaviour cloning, then PPO with masked actions."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training, all at least as large as the crops; real:FOLDER for damage
    as cameras make it, with --val real:FOLDER too."""
    val: Path | None = None
    """Folder of clean photographs for validation; without one there is no validation."""
    out: Path = Path("runs/ppo")
    """Folder of the run."""
    encoder: Path | None = None
    """Encoder weights to start from: safetensors with the keys encoder.*, such as a detector's."""
    freeze_encoder: bool = False
    """Keep the encoder weights fixed, which makes training about a third faster. It needs trained ones."""
    initial_weights: Path | None = None
    """Initial weights, which replace the warm start and --encoder: the folder of a policy that was trained
    for the same tools and --max-tools, such as that of another run."""
    warm_start_steps: NonNegativeInt = 400
    """Number of gradient steps of the warm start, which clones plausible plans, or those of --planner; 0
    skips it."""
    warm_start_batch_size: PositiveInt = 32
    """Number of samples in a gradient step of the warm start."""
    planner: Path | None = None
    """Folder of a finished run of the planner with --table: the warm start then clones the plans that its
    value network chooses."""
    total_timesteps: PositiveInt = 200_000
    """Total number of environment steps, rounded up to whole rollouts. A run that is resumed with more is
    not the run that had them from the start: the learning rate follows the new number from there on."""
    num_envs: PositiveInt = 32
    """Number of sub-environments."""
    n_steps: PositiveInt = 16
    """Number of steps of each sub-environment in a rollout."""
    n_epochs: PositiveInt = 2
    """Number of epochs over each rollout."""
    batch_size: Annotated[int, Range(2)] = 128
    """Minibatch size."""
    lr: NonNegativeFloat = 3e-4
    """Peak learning rate, which decays linearly to a tenth."""
    clip_range: PositiveFloat = 0.2
    """PPO clip range."""
    ent_coef: NonNegativeFloat = 0.01
    """Entropy coefficient."""
    gae_lambda: Probability = 0.95
    """Lambda of generalised advantage estimation. The discount factor gamma is 1, because the rewards of
    an episode add up to its gain of R_q."""
    reward: str = "lite"
    """Reward to maximise: a preset, or module:attribute, a reward of your own; label_free needs no
    references."""
    tool_cost: NonNegativeFloat = 0.0
    """Cost of each tool, subtracted from R_q."""
    max_tools: Annotated[int, Range(1, 64)] = 6
    """Maximum number of tools in a plan."""
    mask_upscale: bool = False
    """Mask upscaling tools once the image has the size of its canvas, as the environment does by default.
    The shipped policy was trained without masks."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    obs_size: Annotated[int, Range(1, 1024)] = 128
    """Side of the observed images in pixels."""
    observe_original: bool = False
    """Observe the image before the first tool too, which doubles the cost of the encoder."""
    clean_weight: NonNegativeFloat = 1.5
    """Sampling weight of clean photographs; those with one, two and three degradations have 1, 3 and 5."""
    benchmark_fraction: Annotated[float, Range(0, 0.95)] = 0.5
    """Fraction of the photographs with two and with three degradations that have one of the benchmark's
    combinations; the others have any plausible one."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations."""
    enlarged: bool = True
    """Train on enlarged copies of some photographs too, which are soft although they are clean."""
    save_every: PositiveInt = 10
    """Rollouts between checkpoints."""
    val_every: PositiveInt = 10
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
        if self.freeze_encoder and self.encoder is None and self.initial_weights is None:
            expected = "trained weights that stay fixed, from --encoder FILE or --initial-weights FOLDER"
            raise SettingError("freeze_encoder", True, expected)
        if self.encoder is not None and self.initial_weights is not None:
            expected = "no other encoder than that of --initial-weights"
            raise SettingError("encoder", self.encoder, expected)
        if self.planner is not None and (self.initial_weights is not None or not self.warm_start_steps):
            expected = "a warm start, which --initial-weights and --warm-start-steps 0 leave out"
            raise SettingError("planner", self.planner, expected)

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
            planner=None if self.planner is None else identify_weights(self.planner),
            initial_weights=None
            if self.initial_weights is None
            else identify_weights(self.initial_weights),
        )
