"""The card of a vision-language model: its system prompt, its toolbox and the labels that it knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, ToolboxMismatchError
from opera_env.files import atomic_write
from opera_env.json_files import read_object
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
        degradations: The labels that answers may name.
    """

    system_prompt: str
    signature: str
    tools: tuple[str, ...]
    degradations: tuple[str, ...]

    def check(self, toolbox: Toolbox, degradations: Sequence[str] | None = None) -> None:
        """Checks that a toolbox and labels are those that the model was trained for.

        Args:
            toolbox: The toolbox.
            degradations: The labels of the photographs, in any order; None checks the toolbox alone.

        Raises:
            ToolboxMismatchError: If the toolbox is another one.
            AgentError: If the labels are others.
        """
        if toolbox.signature != self.signature:
            raise ToolboxMismatchError(
                f"the vision-language model was trained for the tools {', '.join(self.tools)} (signature "
                f"{self.signature}), but the toolbox has {', '.join(toolbox.names)} (signature "
                f"{toolbox.signature}): pass a system prompt for this toolbox, or train the model with "
                "python -m opera_agents.vlm.grpo."
            )
        if degradations is not None and set(degradations) != set(self.degradations):
            raise AgentError(
                f"the vision-language model names {', '.join(self.degradations)}, but the photographs may "
                f"have {', '.join(degradations)}: pass the same degradations as in the warm start, or a "
                "system prompt for these."
            )


def save_card(
    system_prompt: str, toolbox: Toolbox, folder: Path, degradations: Sequence[str] = DEGRADATIONS
) -> None:
    """Writes a model's card into its folder."""
    card = VLMCard(system_prompt, toolbox.signature, toolbox.names, tuple(degradations))
    with atomic_write(folder / METADATA_FILE) as partial:
        partial.write_text(json.dumps(asdict(card), indent=2) + "\n")


def load_card(folder: Path | str) -> VLMCard | None:
    """Reads the card that :func:`save_card` wrote; None if the model has no card.

    Raises:
        AgentError: If the file is not a card.
    """
    path = Path(folder) / METADATA_FILE
    if not path.is_file():
        return None
    data = read_object(path, AgentError, "Train the model again, or get a new copy of its folder.")
    return VLMCard(
        system_prompt=data.text("system_prompt"),
        signature=data.text("signature"),
        tools=data.names("tools"),
        degradations=data.names("degradations"),
    )
