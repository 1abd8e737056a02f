"""Tools as a user would write them in a module, which saved toolboxes find by name."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn


class Blend(nn.Module):
    """Mixes each pixel with the mean of its neighbours; has a weight, a buffer and a tied parameter."""

    mean: Tensor

    def __init__(self, width: int = 3, share: float = 0.5) -> None:
        super().__init__()
        self.share = share
        self.conv = nn.Conv2d(3, width, 3, padding=1, padding_mode="replicate")
        self.out = nn.Conv2d(width, 3, 1)
        self.tied = self.conv.bias
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor) -> Tensor:
        return (1 - self.share) * image + self.share * self.out(self.conv(image).relu())


class Untensored(nn.Module):
    """Its state has something other than tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"a": 1}

    def set_extra_state(self, state: object) -> None:
        pass

    def forward(self, image: Tensor) -> Tensor:
        return image


def invert(image: Tensor) -> Tensor:
    return 1 - image


def make_blend(width: int) -> Blend:
    return Blend(width, share=0.25)


READY = Blend(2)
NOT_A_NETWORK = 3


class Dies(nn.Module):
    """Inverts images; the process ends in the middle of the call whose number is given."""

    identity = "dies"

    def __init__(self, at: int = 0) -> None:
        super().__init__()
        self.calls_left = at

    def forward(self, image: Tensor) -> Tensor:
        self.calls_left -= 1
        if self.calls_left == 0:
            os._exit(3)
        return 1 - image
