"""What can be pushed: kinds of folders, their files, and the command that uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opera_env.errors import HubError, ToolboxError
from opera_env.json_files import read_object

SUFFIXES = (".json", ".jsonl", ".safetensors")
"""Files that travel. They are data: reading them runs no code."""

CHAT_TEMPLATE, CHAT_TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
"""The template of a language model's prompts, and the JSON file in which it travels."""


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes:
        name: Name of the kind.
        marker: Pattern of a file that every folder of this kind has, and none of the kinds before it.
        patterns: Patterns of its files.
        use: A command that uses the folder; ``FOLDER`` stands for it.
        repo_type: Type of the repository on the hub.
    """

    name: str
    marker: str
    patterns: tuple[str, ...]
    use: str
    repo_type: str = "model"

    def files(self, folder: Path) -> list[Path]:
        """Returns the files of a folder that belong to it, sorted by name."""
        if self.name == "toolbox":
            return _toolbox_files(folder)
        return sorted(
            {path for pattern in self.patterns for path in folder.glob(pattern) if path.is_file()}
        )


KINDS = (
    Kind(
        "toolbox",
        "toolbox.json",
        ("toolbox.json", "*.safetensors"),
        "opera-env restore photo.jpg -o restored --toolbox FOLDER",
    ),
    Kind(
        "planner",
        "planner.json",
        ("planner.json", "planner.safetensors"),
        "opera-env restore photo.jpg -o restored --agent planner:FOLDER",
    ),
    Kind(
        "ppo",
        "agent.json",
        ("agent.json", "agent.safetensors"),
        "opera-env restore photo.jpg -o restored --agent ppo:FOLDER",
    ),
    Kind(
        "vlm",
        "opera_env.json",
        ("*.json", "*.safetensors", CHAT_TEMPLATE),
        "opera-env restore photo.jpg -o restored --agent vlm:FOLDER",
    ),
    Kind(
        "critic",
        "critic.safetensors",
        ("critic.safetensors",),
        "python -c \"from opera_env.metrics.critic import Critic; Critic.from_pretrained('FOLDER')\"",
    ),
    Kind(
        "detector",
        "detector.safetensors",
        ("detector.safetensors",),
        "python -m opera_agents.planner.train --initial-weights FOLDER/detector.safetensors",
    ),
    Kind("results", "*.jsonl", ("*.jsonl",), "opera-env evaluate --read FOLDER/*.jsonl", "dataset"),
)
"""Kinds in the order in which a folder is compared with them."""


def find_kind(folder: Path) -> Kind:
    """Returns the kind of a folder.

    Raises:
        HubError: If the folder is of no kind.
    """
    for kind in KINDS:
        if any(folder.glob(kind.marker)):
            return kind
    markers = ", ".join(f"{kind.marker} ({kind.name})" for kind in KINDS)
    raise HubError(f"{folder}: expected a folder with one of {markers}, found none of them.")


def get_kind(name: str, fail: Callable[[str], HubError]) -> Kind:
    """Returns the kind of that name.

    Args:
        name: Name of the kind.
        fail: Makes the error from its reason.

    Raises:
        HubError: If there is no such kind.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    names = ", ".join(kind.name for kind in KINDS)
    raise fail(f"expected 'kind' to be one of {names}, found {name!r}: update opera-env")


def _toolbox_files(folder: Path) -> list[Path]:
    """Returns the manifest of a toolbox and the files that it names; others in the folder stay there."""
    path = folder / "toolbox.json"
    manifest = read_object(path, ToolboxError, "Write the toolbox again with Toolbox.save().")
    names = {entry.text("file") for entry in manifest.objects("tools", 256) if entry.data.get("file")}
    return [path, *(folder / Path(name).name for name in sorted(names))]
