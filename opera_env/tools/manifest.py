"""Saved toolboxes: a manifest, ``toolbox.json``, and one safetensors file for each tool with weights."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_bytes

from opera_env.errors import MissingWeightsError, ToolboxError, WeightsIntegrityError
from opera_env.files import atomic_write
from opera_env.json_files import JsonObject, read_object
from opera_env.tools.net_bounds import build_to_fit
from opera_env.tools.tool import TOOL_NAME, Tool
from opera_env.weights.tensors import file_sha256, load_tensors, tensor_shapes

MANIFEST_NAME = "toolbox.json"
FORMAT_VERSION = 1


_REMEDY = "Get a new copy of the toolbox, or write it again with Toolbox.save()."
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_MAX_TOOLS = 256
_MAX_SIDE = 1024
"""Largest multiple and minimum of a tool, in pixels: images are padded to them."""


def load_tools(folder: Path) -> list[Tool]:
    """Reads the tools of a folder, in order.

    The folder may come from anybody. Sizes are compared before networks are built, so that reading takes
    no more time and memory than the weight files justify.

    Args:
        folder: A folder that :func:`save_tools` has written.

    Raises:
        ToolboxError: If there is no manifest, or it cannot be used; the message names the file and the key.
        MissingWeightsError: If a weight file that the manifest lists is missing.
        WeightsIntegrityError: If a weight file is damaged, or does not have the hash that the manifest
            records.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = read_object(path, ToolboxError, _REMEDY)
    except FileNotFoundError as error:
        raise ToolboxError(
            f"{folder} is not a toolbox, because it has no {MANIFEST_NAME}: expected a folder that "
            "Toolbox.save() has written."
        ) from error
    if (version := manifest.integer("format", 0, 10**6)) != FORMAT_VERSION:
        raise ToolboxError(
            f"{path}: expected format {FORMAT_VERSION}, found {version}: it was written by another version "
            "of opera-env, which can load it."
        )
    entries = manifest.objects("tools", _MAX_TOOLS)
    known: set[str] = set()
    for entry in entries:
        name = entry.text("name")
        if not TOOL_NAME.fullmatch(name) or name in known:
            entry.fail(
                "expected 'name' to be letters, digits, dots, dashes and underscores, and not the name of "
                f"another tool, found {reprlib.repr(name)}"
            )
        known.add(name)
    return [_load_tool(folder, entry) for entry in entries]


def _load_tool(folder: Path, entry: JsonObject) -> Tool:
    kind, options = entry.text("net"), entry.mapping("options")
    path = _weight_file(folder, entry)
    shapes: Mapping[str, tuple[int, ...]] = {}
    if path is not None:
        shapes = tensor_shapes(path)
        expected = entry.text("sha256")
        if not _SHA256.fullmatch(expected):
            entry.fail(f"expected 'sha256' to be 64 hexadecimal digits, found {reprlib.repr(expected)}")
        if (digest := file_sha256(path)) != expected:
            raise WeightsIntegrityError(path, f"sha256 {expected}", digest)
    try:
        net = build_to_fit(kind, options, shapes)
    except ToolboxError as error:
        entry.fail(str(error))
    tool = Tool(
        name=entry.text("name"),
        restore=net.eval(),
        scale=entry.integer("scale", 1, 16),
        multiple=entry.integer("multiple", 1, _MAX_SIDE),
        minimum=entry.integer("minimum", 1, _MAX_SIDE, default=1),
        halo=getattr(net, "halo", None),
        degradations=frozenset(entry.names("degradations")),
        net=(kind, options),
        training=entry.mapping("training", default={}),
        measured=entry.mapping("measured", default={}),
    )
    if path is not None:
        net.load_state_dict({key: value.float() for key, value in load_tensors(path).items()})
    return tool


def _weight_file(folder: Path, entry: JsonObject) -> Path | None:
    """Returns the weight file of a tool; None if it has none."""
    if entry.data.get("file") is None:
        return None
    name = Path(entry.text("file")).name  # a manifest cannot name files outside its folder
    if not _FILE_NAME.fullmatch(name):
        entry.fail(f"expected 'file' to be the name of a file, found {reprlib.repr(entry.data['file'])}")
    path = folder / name
    if not path.is_file():
        raise MissingWeightsError(
            f"weights of tool {entry.text('name')!r}",
            path,
            "a new copy of the toolbox, or by training the tool again",
        )
    return path


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
        manifest = read_object(folder / MANIFEST_NAME, ToolboxError, _REMEDY)
        files = [entry.data.get("file") for entry in manifest.objects("tools", _MAX_TOOLS)]
    except (OSError, ToolboxError):
        return set()
    return {Path(file).name for file in files if isinstance(file, str)}


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
    if tool.measured and tool.measured.get("file") == entry["file"]:  # else the weights have changed since
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
