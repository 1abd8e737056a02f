"""The card of a vision-language model: its system prompt and the toolbox that it was trained for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from opera_env.errors import AgentError, ToolboxMismatchError
from opera_env.files import atomic_write
from opera_env.tools import Toolbox

METADATA_FILE = "opera_env.json"
"""File name of the card, beside a model's weights."""


@dataclass(frozen=True)
class VLMCard:
    """What a vision-language model was trained for.

    Attributes:
        system_prompt: The system prompt of the training.
        signature: Signature of the toolbox.
        tools: Names of the tools, in the order of the toolbox.
    """

    system_prompt: str
    signature: str
    tools: tuple[str, ...]

    def check(self, toolbox: Toolbox) -> None:
        """Checks that a toolbox is the one that the model was trained for.

        Raises:
            ToolboxMismatchError: If it is another one.
        """
        if toolbox.signature != self.signature:
            raise ToolboxMismatchError(
                f"the vision-language model was trained for the tools {', '.join(self.tools)} (signature "
                f"{self.signature}), but the toolbox has {', '.join(toolbox.names)} (signature "
                f"{toolbox.signature}): pass a system prompt for this toolbox, or train the model with "
                "python -m opera_agents.vlm.grpo."
            )


def save_card(system_prompt: str, toolbox: Toolbox, folder: Path) -> None:
    """Writes a model's card into its folder."""
    card = VLMCard(system_prompt, toolbox.signature, toolbox.names)
    with atomic_write(folder / METADATA_FILE) as part:
        part.write_text(json.dumps(asdict(card), indent=2) + "\n")


def load_card(folder: Path | str) -> VLMCard | None:
    """Reads the card that :func:`save_card` wrote; None if the model has no card.

    Raises:
        AgentError: If the file is not a card.
    """
    path = Path(folder) / METADATA_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
        return VLMCard(**data | {"tools": tuple(data["tools"])})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AgentError(f"{path}: not the card of a vision-language model ({error!r}).") from error
