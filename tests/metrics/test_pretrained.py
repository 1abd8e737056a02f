"""Metrics of pyiqa in parts of a batch: the values of the whole batch, within the memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opera_env import weights
from opera_env.metrics import PyiqaMetric


class Recorded(nn.Module):
    """A network that records the sizes of its batches."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.sizes: list[int] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs[0]))
        return self.net(*inputs)


def record(metric: PyiqaMetric) -> Recorded:
    metric.net = Recorded(metric.net)
    return metric.net


def compare_sizes(
    make: Callable[[int], PyiqaMetric], images: Tensor, reference: tuple[Tensor, ...]
) -> None:
    """Compares the values with memory for one image at a time, for two, and so on up to all of them."""
    metric, count = make(1), len(images)
    metric.values(images, reference)
    (one,) = metric._bytes_per_image.values()
    rows: list[Tensor] = []
    for size in range(1, count + 1):
        metric.max_bytes = int((size + 0.5) * one)
        net = record(metric)
        rows.append(metric.values(images, reference))
        assert net.sizes[0] == size and sum(net.sizes) == count and set(net.sizes[:-1]) <= {size}
        metric.net = net.net
    for row in rows:
        assert row.shape == (count,) and torch.allclose(row, rows[-1], rtol=1e-5, atol=1e-4)
    assert len({round(value, 3) for value in rows[0].tolist()}) == count


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(1, 3, 48, 40, generator=generator)
    noise = torch.randn(5, 3, 48, 40, generator=generator)
    return (clean + 0.1 * noise * torch.arange(1, 6)[:, None, None, None]).clamp(0, 1)


@pytest.mark.parametrize("shared", [False, True], ids=["a reference each", "one reference"])
def test_values_with_references_do_not_depend_on_the_memory(images: Tensor, shared: bool) -> None:
    reference = images[:1] if shared else images.flip(3)

    def make(max_bytes: int) -> PyiqaMetric:
        return PyiqaMetric("gmsd", 0.35, False, needs_reference=True, max_bytes=max_bytes)

    compare_sizes(make, images, (reference,))


def test_each_size_is_measured_once(images: Tensor) -> None:
    metric = PyiqaMetric("gmsd", 0.35, False, needs_reference=True)
    net = record(metric)
    for batch in (images, images, images[..., :32], images[:2]):
        metric.values(batch, (batch,))
    assert net.sizes == [1, 5, 5, 1, 5, 2]
    metric.max_bytes = 1
    metric.values(images, (images,))
    assert net.sizes[6:] == [1] * 5, "a single image is computed in whatever memory it needs"


@pytest.mark.slow
@pytest.mark.usefixtures("returns_memory")
def test_values_without_references_do_not_depend_on_the_memory(images: Tensor) -> None:
    """MUSIQ with random weights: its file is not needed for that."""
    torch.manual_seed(0)

    def make(max_bytes: int) -> PyiqaMetric:
        return PyiqaMetric("musiq", 0.0, True, max_bytes=max_bytes, pretrained=False)

    compare_sizes(make, images[::3], ())


@pytest.mark.slow
@pytest.mark.usefixtures("returns_memory")
def test_no_file_but_that_of_the_metric_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MANIQA asks timm for a ViT, whose weights its own file replaces."""
    asked: list[Any] = []
    monkeypatch.setattr(weights, "require", lambda name: tmp_path / name)
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *args, **options: asked.append(args))
    metric = PyiqaMetric("maniqa", 0.0, True, weight="maniqa", pretrained=False)
    assert asked == [] and sum(p.numel() for p in metric.net.parameters()) > 80e6
    PyiqaMetric("maniqa", 0.0, True, pretrained=False)
    assert len(asked) == 1, "the test would notice it"
