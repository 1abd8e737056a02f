"""Saved toolboxes: a manifest, ``toolbox.json``, and one file for each tool with weights."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from opera_env.errors import MissingWeightsError, ToolboxError, UntrustedCodeError, WeightsIntegrityError
from opera_env.files import atomic_write, file_sha256
from opera_env.json_files import JsonObject, read_object
from opera_env.tools.nets import NETS
from opera_env.tools.saved_net import check_can_be_saved, is_code, read_net, write_net
from opera_env.tools.source import PROGRAMS
from opera_env.tools.tool import TOOL_NAME, Tool

MANIFEST_NAME = "toolbox.json"
FORMAT_VERSION = 1


_REMEDY = "Get a new copy of the toolbox, or write it again with Toolbox.save()."
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_MAX_TOOLS = 256
_MAX_SIDE = 1024
"""Largest multiple and minimum of a tool, in pixels: images are padded to them."""


def load_tools(folder: Path, trust_code: bool = False, is_shipped: bool = False) -> list[Tool]:
    """Reads the tools of a folder, in order.

    The folder may come from anybody. Sizes are compared before networks are built, so that reading takes
    no more time and memory than the weight files justify.

    Args:
        folder: A folder that :func:`save_tools` has written.
        trust_code: Whether code that the folder names may run: networks of one's own, programs and served
            tools.
        is_shipped: Whether the folder comes with this package, and sizes need not be compared first.

    Raises:
        UntrustedCodeError: If code would run and ``trust_code`` is False.
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
    code = [f"{entry.text('net')} (tool {entry.text('name')})" for entry in entries if _is_code(entry)]
    if code and not trust_code:
        raise UntrustedCodeError(
            f"{path}: loading this toolbox runs code that it names: {', '.join(code)}. If you trust "
            "whoever wrote the code and the folder, pass trust_code=True, or --trust-code to a command."
        )
    return [_load_tool(folder, entry, is_shipped) for entry in entries]


def _is_code(entry: JsonObject) -> bool:
    return is_code(entry.text("net"))


def _load_tool(folder: Path, entry: JsonObject, is_shipped: bool) -> Tool:
    kind, options = entry.text("net"), entry.mapping("options")
    scale = entry.integer("scale", 1, 16)
    multiple = entry.integer("multiple", 1, _MAX_SIDE)
    minimum = entry.integer("minimum", 1, _MAX_SIDE, default=1)
    halo = None if entry.data.get("halo") is None else entry.integer("halo", 0, 10**5)
    degradations = frozenset(entry.names("degradations"))
    training, measured = (entry.mapping(key, default={}) for key in ("training", "measured"))
    path = _weight_file(folder, entry)
    try:
        net = read_net(kind, options, path, is_shipped)
    except ToolboxError as error:
        entry.fail(str(error).rstrip("."))
    return Tool(
        name=entry.text("name"),
        restore=net.eval() if isinstance(net, nn.Module) else net,
        scale=scale,
        multiple=multiple,
        minimum=minimum,
        halo=getattr(net, "halo", None) if kind in NETS else halo,
        degradations=degradations,
        net=(kind, options),
        training=training,
        measured=measured,
    )


def _weight_file(folder: Path, entry: JsonObject) -> Path | None:
    """Returns the weight file of a tool after checking its hash; None if it has none."""
    if entry.data.get("file") is None:
        return None
    name = Path(entry.text("file")).name  # a manifest cannot name files outside its folder
    if not _FILE_NAME.fullmatch(name):
        entry.fail(f"expected 'file' to be the name of a file, found {reprlib.repr(entry.data['file'])}")
    if entry.text("net") not in PROGRAMS and Path(name).suffix != ".safetensors":
        entry.fail(f"expected weights in a .safetensors file, found {reprlib.repr(name)}")
    path = folder / name
    if not path.is_file():
        raise MissingWeightsError(
            f"weights of tool {entry.text('name')!r}",
            path,
            "a new copy of the toolbox, or by training the tool again",
        )
    expected = entry.text("sha256")
    if not _SHA256.fullmatch(expected):
        entry.fail(f"expected 'sha256' to be 64 hexadecimal digits, found {reprlib.repr(expected)}")
    if (digest := file_sha256(path)) != expected:
        raise WeightsIntegrityError(path, f"sha256 {expected}", digest)
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
        ToolboxError: If a tool was added as a function or module object.
    """
    for tool in tools:
        check_can_be_saved(tool)
    folder.mkdir(parents=True, exist_ok=True)
    previous = _weight_files(folder)
    entries = [_save_tool(tool, folder, dtype) for tool in tools]
    manifest = json.dumps({"format": FORMAT_VERSION, "tools": entries}, indent=2) + "\n"
    with atomic_write(folder / MANIFEST_NAME) as part:
        part.write_text(manifest)
    for name in (previous | _own_files(tools, folder)) - {entry["file"] for entry in entries}:
        (folder / name).unlink(missing_ok=True)


def _own_files(tools: Sequence[Tool], folder: Path) -> set[str]:
    """Returns the names of the files that an interrupted save of these tools may have left; others stay."""
    names = "|".join(re.escape(tool.name) for tool in tools)
    pattern = re.compile(rf"({names})-[0-9a-f]{{8}}\.\w+")
    return {path.name for path in folder.iterdir() if pattern.fullmatch(path.name)}


def _weight_files(folder: Path) -> set[str]:
    """Returns the names of the weight files that a folder's manifest lists; empty without a manifest."""
    try:
        manifest = read_object(folder / MANIFEST_NAME, ToolboxError, _REMEDY)
        files = [entry.data.get("file") for entry in manifest.objects("tools", _MAX_TOOLS)]
    except (OSError, ToolboxError):
        return set()
    return {Path(file).name for file in files if isinstance(file, str)}


def _save_tool(tool: Tool, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    assert tool.net is not None
    kind, options = tool.net
    parameters = () if tool.module is None else tool.module.parameters()
    entry: dict[str, Any] = {
        "name": tool.name,
        "degradations": sorted(tool.degradations),
        "net": kind,
        "options": dict(options),
        "scale": tool.scale,
        "multiple": tool.multiple,
        "minimum": tool.minimum,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "file": None,
        "sha256": None,
        "training": dict(tool.training),
    }
    if kind not in NETS:  # the others compute theirs
        entry["halo"] = tool.halo
    data, suffix = write_net(tool, dtype)
    if data is not None:
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        entry["file"] = f"{tool.name}-{entry['sha256'][:8]}.{suffix}"
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
