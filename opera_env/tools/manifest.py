"""A toolbox on disk: ``toolbox.json`` and one safetensors file a tool."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from opera_env.errors import MissingWeightsError, ToolboxError, WeightsIntegrityError
from opera_env.files import atomic_write
from opera_env.tools.nets import build_net
from opera_env.tools.tool import Tool

MANIFEST = "toolbox.json"
FORMAT = 1


def load_tools(folder: Path) -> list[Tool]:
    """Reads the tools of a folder; see :meth:`opera_env.tools.Toolbox.load` for what can go wrong."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise ToolboxError(
                f"{folder / MANIFEST}: expected format {FORMAT}, found {manifest['format']}: "
                "it was written by another version of opera-env."
            )
        return [_load_tool(folder, entry) for entry in manifest["tools"]]
    except FileNotFoundError as error:
        raise ToolboxError(f"{folder}: no {MANIFEST} in it, so it is no toolbox.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ToolboxError(f"{folder / MANIFEST}: not a toolbox manifest ({error!r}).") from error


def _load_tool(folder: Path, entry: Mapping[str, Any]) -> Tool:
    net = build_net(entry["net"], entry["options"])
    if entry["file"] is not None:
        path = folder / Path(entry["file"]).name  # a manifest never points out of its folder
        if not path.is_file():
            raise MissingWeightsError(
                f"weights of tool {entry['name']!r}", path, "a fresh copy of the toolbox, or training it"
            )
        data = path.read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != entry["sha256"]:
            raise WeightsIntegrityError(path, entry["sha256"], found)
        try:
            net.load_state_dict({key: value.float() for key, value in load_bytes(data).items()})
        except RuntimeError as error:
            raise ToolboxError(
                f"{path}: not the weights of {entry['net']} {entry['options']}: {error}"
            ) from error
    return Tool(
        name=entry["name"],
        restore=net.eval(),
        scale=entry["scale"],
        multiple=entry["multiple"],
        minimum=entry.get("minimum", 1),
        halo=getattr(net, "halo", None),
        degradations=frozenset(entry["degradations"]),
        net=(entry["net"], entry["options"]),
        training=entry.get("training", {}),
        measured=entry.get("measured", {}),
    )


def save_tools(tools: Sequence[Tool], folder: Path, dtype: torch.dtype) -> None:
    """Writes the tools into a folder; see :meth:`opera_env.tools.Toolbox.save`.

    Weight files are named after their content and the manifest is replaced last, so the
    folder holds a whole toolbox, the old or the new, at every moment.
    """
    for tool in tools:
        if tool.net is None or tool.module is None:
            raise ToolboxError(
                f"tool {tool.name!r} was added as a function or file and cannot be saved: save the "
                "others with toolbox.subset(...).save(...), and add it again after loading."
            )
    folder.mkdir(parents=True, exist_ok=True)
    before = _files_of(folder)
    entries = [_save_tool(tool, folder, dtype) for tool in tools]
    manifest = json.dumps({"format": FORMAT, "tools": entries}, indent=2) + "\n"
    with atomic_write(folder / MANIFEST) as part:
        part.write_text(manifest)
    for name in before - {entry["file"] for entry in entries}:  # and no file that is not ours
        (folder / name).unlink(missing_ok=True)


def _files_of(folder: Path) -> set[str]:
    """Names of the weight files that the manifest in a folder lists; none if there is none to read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return {Path(entry["file"]).name for entry in manifest["tools"] if entry["file"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _save_tool(tool: Tool, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    assert tool.net is not None and tool.module is not None
    kind, options = tool.net
    state = {
        key: value.detach().cpu().to(dtype).contiguous() for key, value in tool.module.state_dict().items()
    }
    entry: dict[str, Any] = {
        "name": tool.name,
        "degradations": sorted(tool.degradations),
        "net": kind,
        "options": dict(options),
        "scale": tool.scale,
        "multiple": tool.multiple,
        "minimum": tool.minimum,
        "parameters": sum(parameter.numel() for parameter in tool.module.parameters()),
        "file": None,
        "sha256": None,
        "training": dict(tool.training),
    }
    if state:
        data = save_bytes(state)
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        entry["file"] = f"{tool.name}-{entry['sha256'][:8]}.safetensors"
        with atomic_write(folder / entry["file"]) as part:
            part.write_bytes(data)
    if tool.measured and tool.measured["file"] == entry["file"]:  # of other weights, it would be a lie
        entry["measured"] = dict(tool.measured)
    return entry


def write_measurements(folder: Path, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds to a manifest what was measured of its tools, by name; the weights stay as they are."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for entry in manifest["tools"]:
        entry["measured"] = {"file": entry["file"], **measured[entry["name"]]}
    with atomic_write(folder / MANIFEST) as part:
        part.write_text(json.dumps(manifest, indent=2) + "\n")
