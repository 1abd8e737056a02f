"""A toolbox of tiny networks of the kinds that can be saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net
from tests.random_tools import random_unet_tool


def _tiny_tool(name: str, seed: int, **options: object) -> Tool:
    return random_unet_tool(
        name,
        seed,
        0.1,
        options,
        degradations=frozenset({"noise", "rain"}),
        training={"command": f"train {name}", "psnr_gain": 1.5},
    )


def _tiny_toolbox() -> Toolbox:
    return Toolbox(
        [
            _tiny_tool("tiny.first", 1),
            _tiny_tool("tiny.enlarge", 2, scale=4, unshuffle=1),
            _tiny_tool("tiny.context", 3, global_context=True),
            Tool("tiny.brighten", build_net("gamma", {"gamma": 1.5}), net=("gamma", {"gamma": 1.5})),
        ]
    )


# Helpers come as fixtures: modules beside a test cannot be imported under --import-mode=importlib.
@pytest.fixture
def toolbox() -> Toolbox:
    return _tiny_toolbox()


@pytest.fixture(scope="session")
def tiny_tool() -> Callable[..., Tool]:
    return _tiny_tool


@pytest.fixture
def conv() -> Iterator[nn.Module]:
    torch.manual_seed(0)
    yield nn.Conv2d(3, 3, 3, padding=1)
