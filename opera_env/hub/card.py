"""The page of a repository, made from the files that are pushed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opera_env.hub.kinds import Kind
from opera_env.hub.manifest import HubManifest

_TITLES = {
    "toolbox": "A toolbox of restoration networks",
    "planner": "A planner of image restoration",
    "ppo": "A stepwise agent of image restoration",
    "vlm": "A vision-language model that plans image restoration in words",
    "critic": "A critic: R_q of an image without its reference",
    "detector": "A detector of degradations",
    "results": "Results of image restoration",
}


def make_card(folder: Path, manifest: HubManifest, repo_id: str, licence: str | None) -> str:
    """Returns the page in Markdown.

    Args:
        folder: The folder that is pushed.
        manifest: Its files.
        repo_id: The repository.
        licence: Identifier of the licence; None leaves it out.
    """
    kind = manifest.kind
    name = repo_id.partition("/")[2]
    header = ["---", "library_name: opera-env", "tags:", "- opera-env", f"- opera-env-{kind.name}"]
    header += [f"license: {licence}"] if licence else []
    lines = [*header, "---", "", f"# {_TITLES[kind.name]}", "", *_details(folder, kind), "## Use", ""]
    option = " --dataset" if kind.repo_type == "dataset" else ""
    lines += ["```sh", "pip install 'opera-env[hub]'", f"opera-env hub pull {repo_id}{option} -o {name}"]
    lines += [kind.use.replace("FOLDER", name), "```", "", "## Files", ""]
    lines += ["| file | bytes | sha256 |", "|---|---|---|"]
    lines += [f"| {file.name} | {file.bytes} | {file.sha256} |" for file in manifest.files]
    return "\n".join(lines) + "\n"


def _details(folder: Path, kind: Kind) -> list[str]:
    """Returns what the folder says of itself, as a table."""
    if kind.name == "toolbox":
        tools = json.loads((folder / "toolbox.json").read_text())["tools"]
        rows = [
            (tool["name"], ", ".join(tool["degradations"]), tool.get("parameters", "")) for tool in tools
        ]
        return _table(("tool", "for", "parameters"), rows)
    if kind.name in ("planner", "ppo", "vlm"):
        card = json.loads((folder / kind.marker).read_text())
        rows = [
            ("tools", ", ".join(card["tools"])),
            ("signature of the toolbox", card["signature"]),
            ("degradations", ", ".join(card.get("degradations", ()))),
        ]
        return _table(("trained for", ""), rows)
    return []


def _table(header: tuple[str, ...], rows: list[Any]) -> list[str]:
    lines = [header, ("---",) * len(header), *rows]
    return [*("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines), ""]
