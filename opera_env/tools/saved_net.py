"""How the network of a tool is stored in a toolbox folder, and built again, for each kind of network."""

from __future__ import annotations

import io
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from opera_env.errors import ToolboxError, wrap_errors
from opera_env.tools.exported_net import ExportedNet
from opera_env.tools.net_bounds import build_to_fit, limit_parameters
from opera_env.tools.nets import NETS, build_net
from opera_env.tools.onnx_net import OnnxNet
from opera_env.tools.own_code import NAME, build_own, load_state
from opera_env.tools.served.client import SERVED
from opera_env.tools.source import (
    ONNX,
    PROGRAMS,
    SPANDREL,
    SpandrelNet,
    connect,
    load_program,
    load_spandrel,
)
from opera_env.tools.tool import RestoreFn, Tool
from opera_env.weights.tensors import load_tensors, tensor_shapes


def is_code(kind: str) -> bool:
    """Returns whether building a network of this kind runs code that is not part of this package."""
    return kind in (*PROGRAMS, SERVED) or NAME.fullmatch(kind) is not None


def read_net(
    kind: str, options: Mapping[str, Any], path: Path | None, is_shipped: bool = False
) -> RestoreFn:
    """Builds the network of a tool and loads its weights.

    Args:
        kind: A key of :data:`opera_env.tools.nets.NETS`, one of
            :data:`opera_env.tools.source.FILE_KINDS`, "served" or "module:attribute".
        options: Keyword arguments of the network; of a file, what is known of it.
        path: The file of its weights; None if it has none.
        is_shipped: Whether the folder comes with this package, and sizes need not be compared first.

    Raises:
        ToolboxError: If there is no such kind, or the options and weights do not fit.
        WeightsIntegrityError: If the file is damaged.
        EndpointError: If the tool is served by another process, and that does not answer.
    """
    if kind in PROGRAMS:
        with wrap_errors(ToolboxError, f"reading the {kind} program {path}"):
            return load_program(kind, _existing(kind, path))
    if kind == SERVED:
        return connect(options)
    if kind == SPANDREL:
        file = _existing(kind, path)
        with (
            limit_parameters(kind, tensor_shapes(file)),
            wrap_errors(ToolboxError, f"spandrel, reading {path},"),
        ):
            descriptor = load_spandrel(kind, load_tensors(file))
        found = descriptor.architecture.name
        if found != options.get("architecture"):
            expected = reprlib.repr(options.get("architecture"))
            raise ToolboxError(f"expected the architecture {expected}, found {found}")
        return SpandrelNet(descriptor)
    if NAME.fullmatch(kind):
        network = build_own(kind, options)
        if path is not None:
            load_state(network, load_tensors(path), f"network {kind!r} and {path}")
        return network
    shapes = {} if path is None else tensor_shapes(path)
    net = build_net(kind, options) if is_shipped else build_to_fit(kind, options, shapes)
    if path is not None:
        net.load_state_dict({key: value.float() for key, value in load_tensors(path).items()})
    return net


def _existing(kind: str, path: Path | None) -> Path:
    if path is None:
        raise ToolboxError(f"a network of the kind {kind!r} needs a file, found none")
    return path


def check_can_be_saved(tool: Tool) -> None:
    """Checks that a tool can be built again from what :func:`write_net` writes.

    Raises:
        ToolboxError: If the network was added as an object, or its state is not made of tensors.
    """
    if tool.net is None:
        raise ToolboxError(
            f"tool {tool.name!r} was added as a function or module object, of which a folder cannot say "
            f"how to make it again: add it by name, toolbox.add({tool.name!r}, 'my_module:MyNet', "
            "options={...}, weights=net.state_dict()), or leave it out with toolbox.subset(...).save(...)."
        )
    if tool.net[0] in NETS and tool.module is None:
        raise ToolboxError(f"tool {tool.name!r}: expected a module of the kind {tool.net[0]!r}.")
    if tool.net[0] not in PROGRAMS and not all(
        isinstance(value, Tensor) for value in _state(tool).values()
    ):
        raise ToolboxError(
            f"tool {tool.name!r}: the state of its network holds something other than tensors, which a "
            "safetensors file cannot hold: keep it out of the state_dict."
        )


def write_net(tool: Tool, dtype: torch.dtype) -> tuple[bytes | None, str]:
    """Returns the content of the file of a tool's present weights, and the suffix of its name.

    Args:
        tool: The tool.
        dtype: Data type of the weights; a program keeps its own.

    Returns:
        The content, None for a network without weights, and ``"safetensors"``, ``"pt"``, ``"pt2"`` or
        ``"onnx"``.
    """
    assert tool.net is not None
    if isinstance(tool.restore, OnnxNet):
        return tool.restore.data, ONNX
    if isinstance(tool.restore, ExportedNet):
        return tool.restore.to_bytes(), "pt2"
    if tool.net[0] in PROGRAMS:
        buffer = io.BytesIO()
        torch.jit.save(tool.restore, buffer)  # pyright: ignore[reportArgumentType]
        return buffer.getvalue(), "pt"
    state = {
        key: value.detach()
        .to("cpu", dtype if value.is_floating_point() else value.dtype)
        .clone(memory_format=torch.contiguous_format)  # tied weights must not share memory in the file
        for key, value in _state(tool).items()
    }
    if not state:
        return None, "safetensors"
    data = save_bytes(state)
    if tool.net[0] == SPANDREL:
        _check_is_recognised(tool, data)
    return data, "safetensors"


def _check_is_recognised(tool: Tool, data: bytes) -> None:
    """Checks that spandrel recognises the weights of a network without the file that it came from.

    Raises:
        ToolboxError: If it does not.
    """
    from spandrel import ModelLoader, UnsupportedModelError

    assert tool.net is not None
    try:
        found = ModelLoader().load_from_state_dict(load_bytes(data)).architecture.name
    except UnsupportedModelError:
        found = "none"
    if found != tool.net[1]["architecture"]:
        raise ToolboxError(
            f"tool {tool.name!r} cannot be saved: expected spandrel to recognise its weights as "
            f"{tool.net[1]['architecture']}, found {found}: add it as 'module:attribute' instead."
        )


def _state(tool: Tool) -> Mapping[str, Any]:
    if tool.module is None:
        return {}
    # Spandrel recognises an architecture by the names of its weights.
    return (tool.module.model if isinstance(tool.module, SpandrelNet) else tool.module).state_dict()
