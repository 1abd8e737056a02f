"""The settings of the planner's trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from opera_agents.common.folders import photographs_name
from opera_agents.common.runs import folder_name, run_settings
from opera_env.devices import supports_bfloat16
from opera_env.encoder import EncoderKind
from opera_env.errors import SettingError
from opera_env.runs import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    check_settings,
)


@dataclass(frozen=True)
class PlannerConfig:
    """Trains the planner: a warm start on labels, then GRPO on the reward of its plans."""

    images: tuple[Path, ...]
    """Folders of clean photographs for training, all at least as large as the crops; real:FOLDER for damage
    as cameras make it, with --val real:FOLDER too."""
    val: Path
    """Folder of clean photographs for validation."""
    out: Path = Path("runs/planner")
    """Folder of the run: settings, checkpoints, curves, and the trained planner."""
    initial_weights: Path | None = None
    """Initial weights, which replace the warm start: warm.safetensors or planner.safetensors of another
    run, or its detector.safetensors, which predicts degradations and has learned nothing about tools."""
    warm_start_steps: NonNegativeInt = 7_000
    """Number of gradient steps of the warm start."""
    warm_start_batch_size: PositiveInt = 32
    """Number of samples in a gradient step of the warm start."""
    warm_start_lr: NonNegativeFloat = 2e-3
    """Peak learning rate of the warm start."""
    autocast: bool = supports_bfloat16()
    """Compute in bfloat16 during the warm start; by default where that is fast. Only the encoder does."""
    encoder: EncoderKind = "image"
    """What the planner sees: image, all of a crop at once; windows-1, windows at full resolution and an
    overview, for photographs of any size. Initial weights must have the same."""
    table: Path | None = None
    """Folder of a table of rewards (opera_agents.planner.reward_table) for the toolbox. A value network
    then learns it, and the decoder imitates the network's choices between the warm start and GRPO."""
    table_fraction: Probability = 0.0
    """Fraction of the samples of a GRPO update that come from the table. The rewards of their candidate
    plans are known: no tool runs for them, and their policy gradient is exact."""
    value_epochs: PositiveInt = 60
    """Number of passes of the value network over the table."""
    imitation_steps: NonNegativeInt = 1_500
    """Number of gradient steps in which the decoder imitates the plans that the value network chooses."""
    imitation_batch_size: PositiveInt = 32
    """Number of samples in a step of the imitation."""
    imitation_candidates: PositiveInt = 100
    """Number of plans among which the value network chooses for each sample."""
    imitation_lr: NonNegativeFloat = 1e-3
    """Peak learning rate of the value network and of the imitation; it decays to zero along a cosine."""
    updates: NonNegativeInt = 400
    """Number of GRPO updates. A run that is resumed with more of them is not the run that had them from the
    start: the learning rate follows the new number from there on."""
    batch_size: PositiveInt = 24
    """Number of samples in an update."""
    group_size: PositiveInt = 8
    """Number of decisions in the group of each sample; G in the paper."""
    n_epochs: PositiveInt = 2
    """Number of epochs over each rollout."""
    lr: NonNegativeFloat = 4e-4
    """Peak learning rate of GRPO, reached after 25 updates; it decays linearly to a tenth."""
    clip_range: PositiveFloat = 0.2
    """PPO clip range."""
    kl_coef: NonNegativeFloat = 0.0
    """KL coefficient: weight of the KL divergence from the reference policy, which is the initial one."""
    ent_coef: NonNegativeFloat = 0.03
    """Entropy coefficient."""
    label_coef: NonNegativeFloat = 0.5
    """Coefficient of the label loss, the cross-entropy of the degradation labels, which keeps the encoder
    trained; 0 trains with the reward alone."""
    reward: str = "lite"
    """Reward that computes R_q: a preset, or module:attribute, a reward of your own."""
    reward_form: Literal["product", "gated"] = "product"
    """Form of the combined reward: product is the paper's R_q R_d, gated is R_d + [R_d > 0.8] R_q of its
    published code."""
    credit_assignment: Literal["paired", "joint"] = "paired"
    """paired gives the labels and the plan an advantage each, from the mean reward over all pairs in the
    group; joint gives both the advantage of the decision, as the paper does."""
    tool_cost: NonNegativeFloat = 0.0
    """Cost of each tool, subtracted from R_q."""
    max_tools: PositiveInt = 6
    """Maximum number of tools in a plan."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    clean_weight: NonNegativeFloat = 1.5
    """Sampling weight of clean photographs, relative to degradation_count_weights."""
    degradation_count_weights: Annotated[tuple[float, float, float], Range(0)] = (1.0, 3.0, 5.0)
    """Sampling weights of photographs with one, two and three degradations."""
    benchmark_fraction: Annotated[float, Range(0, 0.95)] = 0.5
    """Fraction of the photographs with two and with three degradations that have one of the benchmark's
    combinations; the others have any plausible one."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations, and the planner predicts them."""
    enlarged: bool = True
    """Train on enlarged copies of some photographs too, which are soft although they are clean."""
    save_every: PositiveInt = 20
    """Updates between checkpoints."""
    val_every: PositiveInt = 50
    """Updates between validations."""
    val_count: PositiveInt = 48
    """Number of validation samples."""
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
        if self.table_fraction and self.table is None:
            raise SettingError("table_fraction", self.table_fraction, "0, or a table of rewards by --table")
        if self.num_table_samples == self.batch_size:
            expected = f"a fraction that leaves one of the {self.batch_size} samples of an update"
            raise SettingError("table_fraction", self.table_fraction, expected)

    @property
    def num_table_samples(self) -> int:
        """Number of samples of a GRPO update that come from the table."""
        return round(self.table_fraction * self.batch_size)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths of this machine."""
        return run_settings(
            self,
            exclude=("val", "out"),
            # None for the default, so that runs from before there was a choice can be resumed.
            encoder=None if self.encoder == "image" else self.encoder,
            images=photographs_name(*self.images),
            toolbox=Path(self.toolbox).name,
            initial_weights=None if self.initial_weights is None else self.initial_weights.name,
            table=None if self.table is None else folder_name(self.table),
        )
