"""The published networks: figures made with the official classes, and small copies for fast tests."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opera_env.tools import Tool
from opera_env.tools.nets import build_net

_FIGURES = Path(__file__).parent / "tools/figures/published_networks.json.gz"

PUBLISHED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "restormer_biasfree": ("restormer", {"bias_free": True}),
    "restormer_withbias": ("restormer", {}),
    "xrestormer": ("xrestormer", {}),
    "xrestormer_x4": ("xrestormer", {"scale": 4}),
    "promptir": ("promptir", {}),
}
"""Kind and options of the published configurations, by their names in the figures."""

_LEVELS: dict[str, Any] = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}
_X: dict[str, Any] = _LEVELS | {"channel_heads": (1, 2, 2, 2), "spatial_heads": (1, 2, 2, 2)}
_X |= {"head_dim": 4, "window": 4, "num_refinement_blocks": 0}
SMALL: Mapping[str, tuple[str, dict[str, Any]]] = {
    "restormer_biasfree": ("restormer", _LEVELS | {"heads": (1, 2, 2, 2), "bias_free": True}),
    "restormer_withbias": ("restormer", _LEVELS | {"heads": (1, 2, 2, 2)}),
    "xrestormer": ("xrestormer", _X),
    "xrestormer_x4": ("xrestormer", _X | {"scale": 4}),
    "promptir": (
        "promptir",
        _LEVELS | {"heads": (1, 2, 2, 2), "prompt_channels": (4, 4, 8), "prompt_sizes": (8, 4, 2)},
    ),
}
"""The same with few channels and one block in each level."""


@cache
def read_figures() -> dict[str, Any]:
    """What the official classes give: names and shapes, and values of one result."""
    return json.loads(gzip.decompress(_FIGURES.read_bytes()))


def random_state(shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    """The random weights with which the figures were made; a function of names and shapes alone."""
    state: dict[str, Tensor] = {}
    for index, name in enumerate(sorted(shapes)):
        shape = tuple(shapes[name])
        values = np.random.default_rng(index).standard_normal(shape)
        if name.endswith("bias"):
            values *= 0.02
        elif len(shape) <= 1 or name.endswith("temperature"):
            values = 1 + 0.02 * values
        else:
            values /= math.sqrt(math.prod(shape[1:]))
        state[name] = torch.tensor(values, dtype=torch.float32)
    return state


def make_small(name: str) -> Any:
    """Makes a small network with random weights, in evaluation mode."""
    net = build_net(*SMALL[name])
    net.load_state_dict(random_state({key: value.shape for key, value in net.state_dict().items()}))
    return net.eval()


def small_tools() -> list[Tool]:
    """The small networks as tools, with newly initialised weights, named after the configurations."""
    tools: list[Tool] = []
    for name in SMALL:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net: Any = build_net(*SMALL[name]).eval()
        sizes = {"scale": net.scale, "multiple": net.multiple, "halo": net.halo}
        tools.append(Tool(f"small.{name}", net, net=SMALL[name], **sizes))
    return tools
