"""Losses of single tools, compared with values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from opera_env.tool_training.losses import ZeroReference, charbonnier, zero_reference_loss

GREY = torch.full((2, 3, 32, 32), 0.4)
CURVES = torch.zeros(2, 9, 4, 4)
ALL = torch.ones(2, dtype=torch.bool)


def _loss(weights: ZeroReference, before: Tensor, after: Tensor, curves: Tensor = CURVES) -> float:
    return float(zero_reference_loss(weights, before, after, curves, ALL))


def test_charbonnier_is_a_smooth_absolute_error() -> None:
    assert charbonnier(GREY, GREY + 0.3).item() == pytest.approx(0.3, abs=1e-4)
    assert charbonnier(GREY, GREY).item() == pytest.approx(1e-3, rel=1e-3)


def test_charbonnier_of_cells_hardly_sees_noise() -> None:
    noise = 0.2 * (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5)
    assert charbonnier(GREY + noise, GREY).item() == pytest.approx(0.05, rel=0.1)
    assert charbonnier(GREY + noise, GREY, reduction=8).item() < 0.01
    assert charbonnier(GREY + 0.1, GREY, reduction=8).item() == pytest.approx(0.1, abs=1e-3)


def test_exposure_is_the_distance_from_the_right_brightness_of_damaged_photographs() -> None:
    weights = ZeroReference(exposure=2, level=0.6)
    assert _loss(weights, GREY, GREY) == pytest.approx(0.4, abs=1e-5)
    one = torch.tensor([True, False])
    assert float(zero_reference_loss(weights, GREY, GREY, CURVES, one)) == pytest.approx(0.2, abs=1e-5)
    assert _loss(weights, GREY, GREY + 0.2) == pytest.approx(0, abs=1e-6)


def test_colour_is_zero_for_grey_means() -> None:
    weights = ZeroReference(colour=1)
    assert _loss(weights, GREY, GREY) == pytest.approx(0)
    red = GREY + torch.tensor([0.3, 0, 0]).view(3, 1, 1)
    assert _loss(weights, GREY, red) == pytest.approx(2 * 0.3**2, abs=1e-5)


def test_spatial_is_zero_where_contrasts_stay() -> None:
    weights, halves = ZeroReference(spatial=1), GREY.clone()
    halves[..., 16:] = 0.8
    assert _loss(weights, halves, halves + 0.1) == pytest.approx(0, abs=1e-9)
    flat = _loss(weights, halves, GREY)
    assert flat == pytest.approx(0.4**2 / 7, rel=1e-3), "one of seven differences along rows is lost"


def test_smoothness_is_zero_for_equal_curves() -> None:
    weights, rough = ZeroReference(smoothness=1), CURVES.clone()
    rough[:, :, ::2] = 1
    assert _loss(weights, GREY, GREY, CURVES + 3) == 0
    assert _loss(weights, GREY, GREY, rough) == pytest.approx(1)
