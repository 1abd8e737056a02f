"""Tiny tools and samples, and a function that executes one plan at a time, for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.tools import Tool, Toolbox
from opera_env.types import Canvas, Plan, Sample, SampleSpec

# Scale, multiple and minimum of the tools below, written again to reveal a mistake in Toolbox.
SIZE_CONSTRAINTS = {
    "tiny.conv": (1, 4, 1),
    "tiny.odd": (1, 3, 10),
    "tiny.invert": (1, 1, 1),
    "tiny.halve": (1, 1, 1),
    "tiny.global": (1, 1, 1),
    "tiny.enlarge": (4, 2, 1),
}


class Conv(nn.Module):
    """A residual 3x3 convolution that requires sizes to be multiples."""

    def __init__(self, seed: int, multiple: int, minimum: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(0.1 * torch.randn(3, 3, 3, 3, generator=generator))
        self.multiple, self.minimum = multiple, minimum

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        assert height % self.multiple == 0 and width % self.multiple == 0, (height, width)
        assert height >= self.minimum and width >= self.minimum, (height, width)
        return image + F.conv2d(image, self.weight, padding=1)


class Enlarge(nn.Module):
    """Upscales four times by pixel shuffle."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(0.05 * torch.randn(48, 3, 3, 3, generator=generator))

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[-2] % 2 == 0 and image.shape[-1] % 2 == 0, image.shape
        residual = F.pixel_shuffle(F.conv2d(image, self.weight, padding=1), 4)
        return image.repeat_interleave(4, dim=-2).repeat_interleave(4, dim=-1) + residual


def _halve(image: Tensor) -> Tensor:
    return image.mul_(0.5)  # in place: a tool may change its input


def _subtract_global_mean(image: Tensor) -> Tensor:
    return image - 0.5 * image.mean(
        dim=(1, 2, 3), keepdim=True
    )  # depends on the whole image, including padding


def _make_toolbox() -> Toolbox:
    return Toolbox(
        [
            Tool("tiny.conv", Conv(1, 4), multiple=4),
            Tool("tiny.odd", Conv(2, 3, 10), multiple=3, minimum=10),
            Tool("tiny.invert", lambda image: 1 - image),
            Tool("tiny.halve", _halve),
            Tool("tiny.global", _subtract_global_mean),
            Tool("tiny.enlarge", Enlarge(3), scale=4, multiple=2),
        ]
    )


def _one_at_a_time(toolbox: Toolbox, image: Tensor, canvas: Canvas, plan: Plan) -> Tensor:
    """Executes one plan on one image, without the executor and without Tool.__call__."""
    with torch.no_grad():
        for name in plan:
            scale, multiple, minimum = SIZE_CONSTRAINTS[name]
            height, width = image.shape[-2:]
            rows, columns = height, width
            while rows < minimum or rows % multiple:
                rows += 1
            while columns < minimum or columns % multiple:
                columns += 1
            mirror = rows - height < height and columns - width < width
            padded = np.pad(
                image.numpy(),
                ((0, 0), (0, rows - height), (0, columns - width)),
                mode="reflect" if mirror else "edge",
            )
            result = toolbox[name].restore(torch.from_numpy(padded.copy())[None])
            result = result[..., : height * scale, : width * scale]
            smaller_than_canvas = height < canvas[0] or width < canvas[1]
            if scale > 1 and not smaller_than_canvas:
                result = F.interpolate(result, (height, width), mode="bicubic", antialias=True)
            image = result[0].contiguous()
    return image


def _make_sample(
    seed: int = 0, size: Canvas = (12, 16), canvas: Canvas | None = None, lq: Tensor | None = None
) -> Sample:
    if lq is None:
        lq = torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))
    spec = SampleSpec("made up", 0, (), seed)
    return Sample(lq, None, None, (lq.shape[-2], lq.shape[-1]) if canvas is None else canvas, spec)


class BatchRecorder:
    """A tool that records the shape of every batch.

    Attributes:
        batches: Shapes of the batches, in order.
    """

    def __init__(self, restore: Callable[[Tensor], Tensor]) -> None:
        self.restore = restore
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, image: Tensor) -> Tensor:
        self.batches.append(tuple(image.shape))
        return self.restore(image)

    @property
    def images(self) -> int:
        return sum(shape[0] for shape in self.batches)


def _distinct_prefixes(samples: Sequence[Sample], plans: Sequence[Plan]) -> set[tuple[Any, ...]]:
    """Returns the distinct (image, canvas, prefix) for which a tool must run."""
    return {
        (sample.lq.numpy().tobytes(), sample.lq.shape, sample.canvas, plan[:length])
        for sample, plan in zip(samples, plans, strict=True)
        for length in range(1, len(plan) + 1)
    }


# Helpers come as fixtures: modules beside a test cannot be imported under --import-mode=importlib.
@pytest.fixture(scope="session")
def make_toolbox() -> Callable[[], Toolbox]:
    return _make_toolbox


@pytest.fixture(scope="session")
def reference_execute() -> Callable[[Toolbox, Tensor, Canvas, Plan], Tensor]:
    return _one_at_a_time


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    return _make_sample


@pytest.fixture(scope="session")
def recorder() -> type[BatchRecorder]:
    return BatchRecorder


@pytest.fixture(scope="session")
def edges() -> Callable[[Sequence[Sample], Sequence[Plan]], set[tuple[Any, ...]]]:
    return _distinct_prefixes
