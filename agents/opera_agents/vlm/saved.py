"""What lies beside a trained vision-language model: what it was told, and which tools it knows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from opera_env.errors import AgentError, ToolboxMismatchError
from opera_env.files import atomic_write
from opera_env.tools import Toolbox

FILE = "opera_env.json"
"""Beside a model's weights."""


@dataclass(frozen=True)
class VLMCard:
    """What a model was told in training.

    Attributes:
        system: Its instructions.
        signature: Of the toolbox it plans with.
        tools: Names of the tools in order.
    """

    system: str
    signature: str
    tools: tuple[str, ...]

    def check(self, toolbox: Toolbox) -> None:
        """Refuses to plan with other tools.

        Raises:
            ToolboxMismatchError: If the toolbox has other tools than the model was trained with.
        """
        if toolbox.signature != self.signature:
            raise ToolboxMismatchError(
                f"the vision-language model was trained with the tools {', '.join(self.tools)} (signature "
                f"{self.signature}), and the toolbox has {', '.join(toolbox.names)} ({toolbox.signature}): "
                "give it instructions for these, or train it with python -m opera_agents.vlm.grpo."
            )


def save_card(system: str, toolbox: Toolbox, folder: Path) -> None:
    """Writes beside a model what it was told."""
    told = VLMCard(system, toolbox.signature, toolbox.names)
    with atomic_write(folder / FILE) as part:
        part.write_text(json.dumps(asdict(told), indent=2) + "\n")


def load_card(folder: Path | str) -> VLMCard | None:
    """Reads what :func:`save_card` wrote; None if a model comes from elsewhere.

    Raises:
        AgentError: If the file is another one's.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
        return VLMCard(**data | {"tools": tuple(data["tools"])})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AgentError(f"{path}: not what a model was told ({error!r})") from error
