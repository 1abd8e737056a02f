"""The settings of the planner's trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from opera_agents.common.runs import folder_name, run_settings
from opera_env.devices import supports_bfloat16


@dataclass(frozen=True)
class PlannerConfig:
    """Settings of the planner's trainer."""

    images: Path
    """Folder of clean photographs for training."""
    val: Path
    """Folder of clean photographs for validation."""
    out: Path = Path("runs/planner")
    """Folder of the run: settings, checkpoints, curves, and the trained planner."""
    initial_weights: Path | None = None
    """Weights to start from instead of a warm start: warm.safetensors or planner.safetensors of another
    run, or its detector.safetensors, which predicts degradations and has learned nothing about the
    tools."""
    warm_start_steps: int = 7_000
    """Steps of the warm start."""
    warm_start_batch_size: int = 32
    """Samples per step of the warm start."""
    warm_start_lr: float = 2e-3
    """Peak learning rate of the warm start."""
    autocast: bool = supports_bfloat16()
    """Whether the encoder computes in bfloat16 during the warm start; by default where that is fast."""
    updates: int = 400
    """Updates of GRPO."""
    batch_size: int = 24
    """Samples per update."""
    group_size: int = 8
    """Decisions per sample; G in the paper."""
    n_epochs: int = 2
    """Epochs over each rollout."""
    lr: float = 4e-4
    """Peak learning rate of GRPO, reached after 25 updates; it falls linearly to a tenth."""
    clip_range: float = 0.2
    """PPO clip range."""
    kl_coef: float = 0.0
    """KL coefficient: weight of the KL divergence from the reference policy, which is the initial one."""
    ent_coef: float = 0.03
    """Entropy coefficient."""
    label_coef: float = 0.5
    """Coefficient of the cross-entropy of the degradation labels, which keeps the encoder trained; 0 trains
    with the reward alone."""
    reward: str = "lite"
    """Name of the reward that computes R_q."""
    reward_form: Literal["product", "gated"] = "product"
    """product is the paper's R_q R_d; gated is the release's R_d + [R_d > 0.8] R_q."""
    credit_assignment: Literal["paired", "joint"] = "paired"
    """paired gives labels and plan advantages of their own, each the mean over all pairs in the group;
    joint gives both the advantage of the decision, as the paper does."""
    tool_cost: float = 0.0
    """Subtracted from R_q for each tool."""
    max_tools: int = 6
    """Longest plan."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    canvas: int = 128
    """Side of the crops in pixels."""
    clean_weight: float = 1.5
    """Relative frequency of samples without degradations."""
    degradation_count_weights: tuple[float, float, float] = (1.0, 3.0, 5.0)
    """Relative frequencies of samples with one, two and three degradations."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations, and the planner predicts them."""
    enlarged: bool = True
    """Train on enlarged copies of some photographs too, which are soft without being degraded."""
    save_every: int = 20
    """Updates between checkpoints."""
    val_every: int = 50
    """Updates between validations."""
    val_count: int = 48
    """Samples of the validation set."""
    regret: bool = False
    """Report the regret in validation: searches the best plans of the validation set, which takes
    minutes."""
    seed: int = 0
    """Seed of the run."""
    threads: int = 2
    """CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the policy and the tools."""

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths of this machine."""
        return run_settings(
            self,
            exclude=("val", "out"),
            images=folder_name(self.images),
            toolbox=Path(self.toolbox).name,
            initial_weights=None if self.initial_weights is None else self.initial_weights.name,
        )
