"""Small tools with random weights, for tests that train or save tools."""

from __future__ import annotations

from typing import Any

import torch

from opera_env.tools import Tool
from opera_env.tools.nets import build_net


def random_unet_tool(name: str, seed: int, std: float, options: dict[str, Any], **fields: Any) -> Tool:
    """Builds a U-Net of a few thousand weights.

    Args:
        name: Name of the tool.
        seed: Seed of its weights.
        std: Standard deviation of all weights. By default the last layer is zero, which would hide errors.
        options: Options of the network beside its size.
        **fields: Further fields of the tool.
    """
    options = {"widths": (4, 8), "unshuffle": 2} | options
    net = build_net("unet", options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    scale, multiple = int(options.get("scale", 1)), int(str(net.multiple))
    return Tool(name, net, scale=scale, multiple=multiple, net=("unet", options), **fields)
