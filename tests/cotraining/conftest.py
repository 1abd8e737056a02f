"""A toolbox of tiny networks that can be trained and saved."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net


def trainable_toolbox() -> Toolbox:
    """Three networks of a few hundred parameters, and one tool without parameters."""

    def tool(name: str, seed: int, **options: object) -> Tool:
        options = {"widths": (4, 8), "unshuffle": 2} | options
        net = build_net("unet", options)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in net.parameters():  # the last layer starts at zero, and zeros would hide errors
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        scale = int(str(options.get("scale", 1)))
        return Tool(name, net, scale=scale, multiple=int(str(net.multiple)), net=("unet", options))

    gamma = Tool("tiny.brighten", build_net("gamma", {"gamma": 1.5}), net=("gamma", {"gamma": 1.5}))
    return Toolbox(
        [
            tool("tiny.first", 1),
            tool("tiny.second", 2, global_context=True),
            tool("tiny.enlarge", 3, scale=4, unshuffle=1),
            gamma,
        ]
    )


@pytest.fixture
def toolbox() -> Toolbox:
    return trainable_toolbox()


@pytest.fixture(scope="session")
def make_trainable_toolbox() -> Callable[[], Toolbox]:
    return trainable_toolbox
