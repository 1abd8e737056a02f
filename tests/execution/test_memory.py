"""bytes_per_pixel: the measured memory of tools."""

from __future__ import annotations

import torch
from torch import nn

from opera_env.execution.memory import bytes_per_pixel
from opera_env.tools import Tool

CPU = torch.device("cpu")


def test_measured_memory_of_a_known_network() -> None:
    """A convolution and an in-place ReLU hold the input and 24 channels."""
    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(24, 3, 3, padding=1)
    )
    per_pixel = bytes_per_pixel(Tool("net", net.eval()), CPU)
    assert 24 * 4 <= per_pixel <= 1.6 * 4 * (3 + 24 + 24 + 3)
    wide = nn.Sequential(nn.Conv2d(3, 96, 3, padding=1), nn.Conv2d(96, 3, 3, padding=1))
    assert 2 * per_pixel < bytes_per_pixel(Tool("wide", wide.eval()), CPU)


def test_measured_memory_counts_only_live_tensors() -> None:
    """A chain of 40 layers needs no more memory than two layers at a time."""
    chain = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(40)))
    assert bytes_per_pixel(Tool("chain", chain.eval()), CPU) <= 1.6 * 4 * 3 * 4
