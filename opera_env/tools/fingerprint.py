"""The digests of a toolbox: the signature of its tools and the fingerprint of their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from opera_env.tools.served.client import SERVED
from opera_env.tools.tool import Tool


def compute_signature(tools: Iterable[Tool]) -> str:
    """Returns a digest of the names, order and scales of tools: 16 hexadecimal digits."""
    rows = [[tool.name, tool.scale] for tool in tools]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def compute_fingerprint(tools: Iterable[Tool], precision: torch.dtype = torch.float32) -> str:
    """Returns a digest of the signature, the networks and the weights of tools: 16 hexadecimal digits.

    A plain function enters the digest by its name if it was added by name, and otherwise by its identity
    in this process.

    Args:
        tools: The tools, in order.
        precision: Data type in which they compute; it is part of the digest if it is not float32.
    """
    tools = tuple(tools)
    digest = hashlib.sha256(compute_signature(tools).encode())
    if precision != torch.float32:
        digest.update(str(precision).encode())
    for tool in tools:
        digest.update(tool.name.encode())
        if tool.net is not None:
            digest.update(json.dumps(_identify_net(*tool.net), default=str).encode())
        for key, tensor in _named_tensors(tool):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            values = tensor.detach().cpu().reshape(-1).contiguous()
            digest.update(values.view(torch.uint8).numpy().tobytes())
        if tool.module is None and tool.net is None:
            digest.update(str(id(tool.restore)).encode())
    return digest.hexdigest()[:16]


def _identify_net(kind: str, options: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Returns what identifies a network: of a served tool what it says of its weights, not its address."""
    return (kind, {"identity": options.get("identity")} if kind == SERVED else options)


def weights_version(tools: Iterable[Tool]) -> tuple[object, ...]:
    """Returns a value that changes when weights of tools change, without reading all of them.

    Torch counts in-place writes per tensor, but fused optimizers do not increase the count. Therefore the
    smallest trainable parameter of each tool, which an optimizer step changes too, is compared by value.
    """
    version: list[object] = []
    for tool in tools:
        version.append(tool.name)
        tensors = [tensor for _, tensor in _named_tensors(tool)]
        version += [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
        if trainable := [tensor for tensor in tensors if tensor.requires_grad]:
            smallest = min(trainable, key=Tensor.numel)
            version.append(tuple(smallest.detach().reshape(-1).tolist()))
    return tuple(version)


def _named_tensors(tool: Tool) -> Iterator[tuple[str, Tensor]]:
    if tool.module is not None:
        yield from tool.module.named_parameters()
        yield from tool.module.named_buffers()
