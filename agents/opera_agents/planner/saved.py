"""A trained planner on disk: float16 weights, and beside them what the policy was trained for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from opera_agents.planner.policy import PlanPolicy
from opera_env.degradations import DEGRADATIONS
from opera_env.encoder import make_encoder
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError
from opera_env.files import atomic_write
from opera_env.json_files import read_object
from opera_env.tools import Toolbox
from opera_env.weights.checkpoints import load_as_float32, save_half

SHIPPED = Path(__file__).with_name("weights")
"""Folder of the shipped policy for the toolbox ``lite``; its subfolders hold policies for other
toolboxes."""

_REMEDY = "python -m opera_agents.planner.train --help"


@dataclass(frozen=True)
class PolicyCard:
    """What a policy was trained for, and how.

    Attributes:
        signature: Signature of the toolbox.
        tools: Names of the tools, in order.
        degradations: Names of the degradations that the policy predicts, in order.
        max_tools: Maximum number of tools in a plan.
        encoder: Kind of its encoder, see :data:`opera_env.encoder.EncoderKind`.
        training: Settings and results of the training run.
    """

    signature: str
    tools: tuple[str, ...]
    degradations: tuple[str, ...] = DEGRADATIONS
    max_tools: int = 6
    encoder: str = "image"
    training: dict[str, Any] = field(default_factory=dict)

    def build(self) -> PlanPolicy:
        """Returns a policy of this shape with random weights."""
        encoder = make_encoder(self.encoder)
        return PlanPolicy(len(self.tools), len(self.degradations), self.max_tools, encoder=encoder)

    def check(self, toolbox: Toolbox) -> None:
        """Checks that the policy was trained for the tools of a toolbox.

        Raises:
            ToolboxMismatchError: If the toolbox has other tools.
        """
        if toolbox.signature != self.signature:
            raise ToolboxMismatchError(
                f"the planner was trained for the tools {', '.join(self.tools)} "
                f"(signature {self.signature}), and the toolbox has {', '.join(toolbox.names)} "
                f"({toolbox.signature}): train one for it "
                "with python -m opera_agents.planner.train --toolbox ..., or choose another agent."
            )


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes the weights of a network as float16 safetensors, atomically."""
    save_half(module.state_dict(), path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads weights that :func:`save_weights` wrote.

    Raises:
        MissingWeightsError: If there is no such file.
        AgentError: If the file holds the weights of another network.
    """
    if not path.is_file():
        raise MissingWeightsError("a trained network", path, _REMEDY)
    try:
        module.load_state_dict(load_as_float32(path), assign=next(module.parameters()).is_meta)
    except RuntimeError as error:
        reason = shorten(str(error), 300)
        raise AgentError(f"{path}: not the weights of this network ({reason}).") from error


def load_initial_weights(policy: PlanPolicy, path: Path) -> None:
    """Loads weights to start from: those of a policy, or of its detector alone in ``detector.safetensors``.

    Raises:
        MissingWeightsError: If there is no such file.
        WeightsIntegrityError: If the file is damaged.
        AgentError: If the file holds the weights of another network.
    """
    load_weights(policy.detector if path.name == "detector.safetensors" else policy, path)


def save_policy(policy: PlanPolicy, card: PolicyCard, folder: Path) -> None:
    """Writes ``planner.safetensors`` and ``planner.json`` to a folder, each atomically."""
    save_weights(policy, folder / "planner.safetensors")
    with atomic_write(folder / "planner.json") as partial:
        partial.write_text(json.dumps(asdict(card), indent=2) + "\n")


def load_policy(name_or_folder: Path | str = SHIPPED) -> tuple[PlanPolicy, PolicyCard]:
    """Loads a policy that :func:`save_policy` wrote.

    Args:
        name_or_folder: A folder, or the name of the toolbox that a shipped policy was trained for, if that
            is not ``lite``.

    Returns:
        The policy in evaluation mode, and what it was trained for.

    Raises:
        MissingWeightsError: If a file is absent.
        AgentError: If a file is not that of a planner.
    """
    names = [path.name for path in SHIPPED.iterdir() if path.is_dir()]
    folder = (SHIPPED if str(name_or_folder) in names else Path()) / name_or_folder
    path = folder / "planner.json"
    if not path.is_file():
        raise MissingWeightsError("a trained planner", path, _REMEDY)
    data = read_object(path, AgentError, "Train the planner again, or get a new copy of its folder.")
    card = PolicyCard(
        signature=data.text("signature"),
        tools=data.names("tools"),
        degradations=data.names("degradations"),
        max_tools=data.integer("max_tools", 1, 64, default=6),
        encoder=str(data.data.get("encoder", "image")),
        training=data.mapping("training", default={}),
    )
    # Random initial weights would change the global generator's state. The meta device would avoid them,
    # but embeddings on it import torch's compiler, which takes a second.
    with torch.random.fork_rng(devices=[]):
        policy = card.build()
    load_weights(policy, folder / "planner.safetensors")
    return policy.eval(), card
