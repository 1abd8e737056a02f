"""How the planner is trained, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from opera_agents.common.runs import folder_name, run_settings
from opera_env.devices import supports_bfloat16


@dataclass(frozen=True)
class PlannerConfig:
    """How the planner is trained."""

    images: Path
    """Folder of clean photographs to train on."""
    val: Path
    """Folder of clean photographs to watch it on."""
    out: Path = Path("runs/planner")
    """Everything is written here."""
    start: Path | None = None
    """Weights to start from instead of a warm start: warm.safetensors of another run, or its
    detector.safetensors, which knows the degradations and nothing of the tools."""
    warm_steps: int = 7_000
    """Steps of the warm start."""
    warm_batch: int = 32
    """Photographs per step of the warm start."""
    warm_lr: float = 2e-3
    """Its peak learning rate."""
    autocast: bool = supports_bfloat16()
    """Whether the warm start computes in bfloat16, where that is fast."""
    updates: int = 400
    """Updates by GRPO."""
    photographs: int = 24
    """Photographs per update."""
    group: int = 8
    """Decisions per photograph, the paper's G."""
    epochs: int = 2
    """Times each batch is learned from."""
    lr: float = 4e-4
    """Peak learning rate of GRPO, after 25 updates; falls linearly to a tenth."""
    clip: float = 0.2
    """How far the ratio may leave 1."""
    kl: float = 0.0
    """Weight of the divergence from the policy after the warm start."""
    entropy: float = 0.03
    """Weight of the entropy of the next tool."""
    labels: float = 0.5
    """Weight of the labels' cross-entropy, which goes on teaching the encoder to see; 0 for GRPO alone."""
    reward: str = "lite"
    """What counts as quality."""
    form: Literal["product", "gated"] = "product"
    """The paper's R_q R_d, or the release's R_d + [R_d > .8] R_q."""
    credit: Literal["paired", "joint"] = "paired"
    """Compare plans by their mean over all sets of the group, or by the one they were drawn with, as in the
    paper."""
    tool_cost: float = 0.0
    """Taken from R_q per tool."""
    max_tools: int = 6
    """Longest plan."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    canvas: int = 128
    """Side of the crops."""
    clean: float = 1.5
    """Weight of clean photographs."""
    ratio: tuple[float, float, float] = (1.0, 3.0, 5.0)
    """Weights of photographs with one, two and three degradations."""
    enlarged: bool = True
    """Train on enlarged copies of some photographs too, which are soft and nevertheless clean."""
    save_every: int = 20
    """Updates between checkpoints: what a kill loses at most."""
    val_every: int = 50
    """Updates between validations."""
    val_count: int = 48
    """Samples of the validation set."""
    regret: bool = False
    """Search the best plans of the validation set, which takes minutes, and watch the distance to them."""
    seed: int = 0
    threads: int = 2
    """CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    def settings(self) -> dict[str, Any]:
        """Returns what decides the result, without the places where things lie."""
        return run_settings(
            self,
            exclude=("val", "out"),
            images=folder_name(self.images),
            toolbox=Path(self.toolbox).name,
            start=None if self.start is None else self.start.name,
        )
