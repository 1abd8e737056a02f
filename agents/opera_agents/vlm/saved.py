"""The card of a vision-language model: its system prompt, its toolbox and the labels that it knows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError, WeightsIntegrityError
from opera_env.files import atomic_write, file_sha256
from opera_env.json_files import read_object
from opera_env.runs import Identity, identify_weights
from opera_env.tools import Toolbox

METADATA_FILE = "opera_env.json"
"""File name of the card, beside a model's weights."""

_REMEDY = "Train the model again, or get a new copy of its folder."


@dataclass(frozen=True)
class VLMCard:
    """What a vision-language model was trained for.

    Attributes:
        system_prompt: The system prompt of the training.
        signature: Signature of the toolbox.
        tools: Names of the tools, in the order of the toolbox.
        degradations: The labels that answers may name.
        weights: SHA-256 of each file of weights, by name; empty in cards of earlier versions.
        turns: Whether it was trained to call functions turn by turn; else it writes the whole plan at once.
    """

    system_prompt: str
    signature: str
    tools: tuple[str, ...]
    degradations: tuple[str, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    turns: bool = False

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

    def check_turns(self, turns: bool) -> None:
        """Checks that the model was trained to call functions turn by turn, or that it was not.

        Args:
            turns: Whether it is to call functions.

        Raises:
            AgentError: If it was trained for the other.
        """
        if turns != self.turns:
            kinds = {True: "call functions turn by turn", False: "write the whole plan at once"}
            raise AgentError(
                f"expected a vision-language model that was trained to {kinds[turns]}, found one that was "
                f"trained to {kinds[self.turns]}: models that call functions are the agent vlm_stepwise, "
                "and are trained with --answer-kind turns (warm start) and --turns true (GRPO)."
            )

    def check_weights(self, folder: Path) -> None:
        """Checks that the weights in a folder are those that were written with the card.

        Raises:
            MissingWeightsError: If a file is absent.
            WeightsIntegrityError: If a file has changed.
        """
        for name, expected in self.weights.items():
            path = folder / Path(name).name
            if not path.is_file():
                raise MissingWeightsError(
                    "weights of a vision-language model", path, "a new copy of its folder"
                )
            if (found := file_sha256(path)) != expected:
                raise WeightsIntegrityError(path, f"sha256 {expected}", found)


def save_card(
    system_prompt: str,
    toolbox: Toolbox,
    folder: Path,
    degradations: Sequence[str] = DEGRADATIONS,
    turns: bool = False,
) -> None:
    """Writes a model's card into its folder, with the digests of the weights that the folder holds."""
    card = VLMCard(system_prompt, toolbox.signature, toolbox.names, tuple(degradations), turns=turns)
    write_card(card, folder)


def write_card(card: VLMCard, folder: Path) -> None:
    """Writes a card into a model's folder, with the digests of the weights that the folder holds."""
    digests = {path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    with atomic_write(folder / METADATA_FILE) as partial:
        partial.write_text(json.dumps(asdict(replace(card, weights=digests)), indent=2) + "\n")


def save_processor(processor: Any, folder: Path) -> None:
    """Writes a processor into a model's folder, without the padding that its last batch had."""
    processor.tokenizer.backend_tokenizer.no_padding()
    processor.tokenizer.backend_tokenizer.no_truncation()
    processor.save_pretrained(folder)


@contextmanager
def replace_model(folder: Path, is_main_process: bool = True) -> Iterator[Path]:
    """Yields a folder to write a model to; afterwards it replaces ``folder`` as a whole.

    If the process is killed while it writes, ``folder`` is the previous one.

    Args:
        folder: Folder of the model.
        is_main_process: Whether this process replaces the folder, if several write to it.
    """
    part, previous = (folder.with_name(f".{folder.name}.{name}") for name in ("part", "previous"))
    if is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        if is_main_process:
            shutil.rmtree(part, ignore_errors=True)
        raise
    if not is_main_process:
        return
    mode = (part / METADATA_FILE).stat().st_mode
    for path in part.glob("*.safetensors"):
        path.chmod(mode)  # the library makes them unreadable for other users
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    part.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def load_card(folder: Path | str) -> VLMCard | None:
    """Reads the card that :func:`save_card` wrote; None if the model has no card.

    Raises:
        AgentError: If the file is not a card.
    """
    path = Path(folder) / METADATA_FILE
    if not path.is_file():
        return None
    data = read_object(path, AgentError, _REMEDY)
    return VLMCard(
        system_prompt=data.text("system_prompt"),
        signature=data.text("signature"),
        tools=data.names("tools"),
        degradations=data.names("degradations"),
        weights={name: str(digest) for name, digest in data.mapping("weights", default={}).items()},
        turns=data.flag("turns", default=False),
    )


def identify_model(name_or_path: Path | str | None) -> Identity | str | None:
    """Returns the identity of a model by its weights; a name on a hub, or None, stands for itself."""
    if name_or_path is None or not Path(name_or_path).is_dir():
        return None if name_or_path is None else str(name_or_path)
    return identify_weights(Path(name_or_path))
