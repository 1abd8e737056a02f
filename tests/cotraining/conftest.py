"""A toolbox of tiny networks that can be trained and saved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net
from tests.random_tools import random_unet_tool


def trainable_toolbox() -> Toolbox:
    """Three networks of a few hundred parameters, and one tool without parameters."""

    gamma = Tool("tiny.brighten", build_net("gamma", {"gamma": 1.5}), net=("gamma", {"gamma": 1.5}))
    return Toolbox(
        [
            random_unet_tool("tiny.first", 1, 0.05, {}),
            random_unet_tool("tiny.second", 2, 0.05, {"global_context": True}),
            random_unet_tool("tiny.enlarge", 3, 0.05, {"scale": 4, "unshuffle": 1}),
            gamma,
        ]
    )


@pytest.fixture
def toolbox() -> Toolbox:
    return trainable_toolbox()


@pytest.fixture(scope="session")
def make_trainable_toolbox() -> Callable[[], Toolbox]:
    return trainable_toolbox
