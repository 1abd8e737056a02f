"""Saved toolboxes: a manifest, ``toolbox.json``, and one safetensors file for each tool with weights."""

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

MANIFEST_NAME = "toolbox.json"
FORMAT_VERSION = 1


def load_tools(folder: Path) -> list[Tool]:
    """Reads the tools of a folder, in order.

    Args:
        folder: A folder that :func:`save_tools` has written.

    Raises:
        ToolboxError: If there is no manifest, or it cannot be read.
        MissingWeightsError: If a weight file that the manifest lists is missing.
        WeightsIntegrityError: If a weight file does not have the hash that the manifest records.
    """
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
        if manifest["format"] != FORMAT_VERSION:
            raise ToolboxError(
                f"{folder / MANIFEST_NAME}: expected format {FORMAT_VERSION}, found {manifest['format']}: "
                "it was written by another version of opera-env, which can load it."
            )
        return [_load_tool(folder, entry) for entry in manifest["tools"]]
    except FileNotFoundError as error:
        raise ToolboxError(
            f"{folder} is not a toolbox, because it has no {MANIFEST_NAME}: expected a folder that "
            "Toolbox.save() has written."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ToolboxError(
            f"{folder / MANIFEST_NAME} is not the manifest of a toolbox ({error!r}): expected one that "
            "Toolbox.save() has written."
        ) from error


def _load_tool(folder: Path, entry: Mapping[str, Any]) -> Tool:
    net = build_net(entry["net"], entry["options"])
    if entry["file"] is not None:
        path = folder / Path(entry["file"]).name  # a manifest cannot name files outside its folder
        if not path.is_file():
            raise MissingWeightsError(
                f"weights of tool {entry['name']!r}",
                path,
                "a new copy of the toolbox, or by training the tool again",
            )
        data = path.read_bytes()
        if (digest := hashlib.sha256(data).hexdigest()) != entry["sha256"]:
            raise WeightsIntegrityError(path, entry["sha256"], digest)
        try:
            net.load_state_dict({key: value.float() for key, value in load_bytes(data).items()})
        except RuntimeError as error:
            raise ToolboxError(
                f"{path}: the weights do not fit {entry['net']} {entry['options']}: {error}"
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
    """Writes tools to a folder.

    The names of weight files contain their hash, and the manifest is replaced last. So the folder holds a
    complete toolbox, the previous one or the new one, at every moment.

    Args:
        tools: The tools, in order.
        folder: Created if it does not exist.
        dtype: Data type of the stored weights.

    Raises:
        ToolboxError: If a tool has no network that can be built from a manifest.
    """
    for tool in tools:
        if tool.net is None or tool.module is None:
            raise ToolboxError(
                f"tool {tool.name!r} was added as a function, module or file and cannot be saved: save "
                "the others with toolbox.subset(...).save(...), and add it again after loading."
            )
    folder.mkdir(parents=True, exist_ok=True)
    previous = _weight_files(folder)
    entries = [_save_tool(tool, folder, dtype) for tool in tools]
    manifest = json.dumps({"format": FORMAT_VERSION, "tools": entries}, indent=2) + "\n"
    with atomic_write(folder / MANIFEST_NAME) as part:
        part.write_text(manifest)
    for name in previous - {entry["file"] for entry in entries}:  # files that no manifest listed stay
        (folder / name).unlink(missing_ok=True)


def _weight_files(folder: Path) -> set[str]:
    """Returns the names of the weight files that a folder's manifest lists; empty without a manifest."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
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
    if tool.measured and tool.measured["file"] == entry["file"]:  # else the weights have changed since
        entry["measured"] = dict(tool.measured)
    return entry


def write_measurements(folder: Path, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds measurements of tools to a manifest; the weight files stay as they are.

    Args:
        folder: A saved toolbox.
        measured: For each tool of the toolbox, by name, measurements in JSON types.
    """
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    for entry in manifest["tools"]:
        entry["measured"] = {"file": entry["file"], **measured[entry["name"]]}
    with atomic_write(folder / MANIFEST_NAME) as part:
        part.write_text(json.dumps(manifest, indent=2) + "\n")
