"""A trained policy as files: weights in fp16, and beside them what it was trained for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from opera_agents.planner.policy import PlanPolicy
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError
from opera_env.files import atomic_write
from opera_env.tools import Toolbox
from opera_env.weights.checkpoints import load_as_float32, save_half

SHIPPED = Path(__file__).with_name("weights")
"""The policy that comes with the package, for the toolbox ``lite``; folders in it have those for others."""


@dataclass(frozen=True)
class PolicyCard:
    """What a policy was trained for, and how.

    Attributes:
        signature: Of the toolbox it plans for.
        tools: Names of the tools in order.
        degradations: Names of the labels in order.
        max_tools: Longest plan it writes.
        training: How it came about.
    """

    signature: str
    tools: tuple[str, ...]
    degradations: tuple[str, ...] = DEGRADATIONS
    max_tools: int = 6
    training: dict[str, Any] = field(default_factory=dict)

    def build(self) -> PlanPolicy:
        """Returns an untrained policy of this shape."""
        return PlanPolicy(len(self.tools), len(self.degradations), self.max_tools)

    def check(self, toolbox: Toolbox) -> None:
        """Refuses to plan for other tools.

        Raises:
            ToolboxMismatchError: If the toolbox has other tools than the policy was trained for.
        """
        if toolbox.signature != self.signature:
            raise ToolboxMismatchError(
                f"the planner was trained for the tools {', '.join(self.tools)} "
                f"(signature {self.signature}), and the toolbox has {', '.join(toolbox.names)} "
                f"({toolbox.signature}): train one for it "
                "with python -m opera_agents.planner.train --toolbox ..., or choose another agent."
            )


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes weights as fp16 safetensors, whole or not at all."""
    save_half(module.state_dict(), path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what :func:`save_weights` wrote.

    Raises:
        MissingWeightsError: If there is no such file.
        AgentError: If the file belongs to another network.
    """
    if not path.is_file():
        raise MissingWeightsError("a trained network", path, "python -m opera_agents.planner.train --help")
    try:
        module.load_state_dict(load_as_float32(path), assign=next(module.parameters()).is_meta)
    except RuntimeError as error:
        raise AgentError(f"{path}: not the weights of this network ({error})") from error


def save_policy(policy: PlanPolicy, card: PolicyCard, folder: Path) -> None:
    """Writes ``planner.safetensors`` and ``planner.json``."""
    save_weights(policy, folder / "planner.safetensors")
    with atomic_write(folder / "planner.json") as part:
        part.write_text(json.dumps(asdict(card), indent=2) + "\n")


def load_policy(name_or_folder: Path | str = SHIPPED) -> tuple[PlanPolicy, PolicyCard]:
    """Reads what :func:`save_policy` wrote.

    Args:
        name_or_folder: A folder, or the toolbox that a shipped policy is for, if that is not ``lite``.

    Raises:
        MissingWeightsError: If a file is absent.
        AgentError: If a file is no policy's.
    """
    folder = SHIPPED / name_or_folder
    if not folder.is_dir():
        folder = Path(name_or_folder)
    path = folder / "planner.json"
    if not path.is_file():
        raise MissingWeightsError("a trained planner", path, "python -m opera_agents.planner.train --help")
    try:
        data = json.loads(path.read_text())
        card = PolicyCard(
            **data | {"tools": tuple(data["tools"]), "degradations": tuple(data["degradations"])}
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AgentError(f"{path}: not a planner's description ({error!r})") from error
    with torch.device("meta"):  # or weights would be drawn, from everybody's generator, to be replaced
        policy = card.build()
    load_weights(policy, folder / "planner.safetensors")
    return policy.eval(), card
