"""The loss of tools: its terms, the schedule of their weights, and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from opera_env import weights
from opera_env.cotraining.losses import (
    LOSS_PRESETS,
    LossWeights,
    RestorationLoss,
    _ScoreLoss,
    get_loss_weights,
    weighted_loss,
)
from opera_env.cotraining.vgg import VggDistance
from opera_env.errors import MissingWeightsError, SettingError, UnknownPresetError


def _pair(side: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    references = torch.rand(2, 3, side, side, generator=generator)
    noise = 0.1 * torch.randn(references.shape, generator=generator)
    return (references + noise).requires_grad_(), references


def test_the_schedule_equals_the_papers() -> None:
    preset = LOSS_PRESETS["paper"]
    for epoch in range(1, 24):  # 23 epochs; the transition takes six of them
        gamma = (1 - math.cos(math.pi * epoch / 6)) / 2 if epoch <= 6 else 1.0
        current = preset.at_epoch(epoch, 23)
        assert current.l1 == pytest.approx(1 - 0.6 * gamma)
        for name in ("vgg", "lpips", "musiq", "clipiqa"):
            assert getattr(current, name) == pytest.approx(getattr(preset, name) * gamma)
    assert preset.at_epoch(7, 23) == preset.at_epoch(23, 23) == preset


def test_training_starts_with_l1_even_if_it_ends_without() -> None:
    loss_weights = LossWeights(l1=0, critic=1)
    loss = RestorationLoss(loss_weights)
    assert loss.names == ("l1", "critic")
    results, references = _pair()
    terms = loss(results, references)
    first = weighted_loss(terms, loss_weights.at_epoch(1, 20))
    expected = 0.933 * terms["l1"] + 0.067 * terms["critic"]
    torch.testing.assert_close(first, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(weighted_loss(terms, loss_weights.at_epoch(20, 20)), terms["critic"])


def test_negative_weights_are_refused() -> None:
    with pytest.raises(SettingError, match="lpips"):
        LossWeights(lpips=-0.1)


def test_a_short_run_has_no_transition() -> None:
    assert LOSS_PRESETS["lite"].at_epoch(1, 3) == LOSS_PRESETS["lite"]


def test_loss_weights_are_given_by_name_or_value() -> None:
    own_weights = LossWeights(l1=0.2, lpips=0.8)
    assert get_loss_weights(own_weights) is own_weights and get_loss_weights("pixel") == LossWeights(l1=1.0)
    with pytest.raises(UnknownPresetError, match=r"loss 'sharp'.*lite, paper, pixel"):
        get_loss_weights("sharp")


def test_l1_is_per_image_and_not_clamped() -> None:
    references = torch.zeros(2, 3, 8, 8)
    results = torch.stack([torch.full((3, 8, 8), 0.25), torch.full((3, 8, 8), -2.0)])
    terms = RestorationLoss(LOSS_PRESETS["pixel"])(results, references)
    assert terms["l1"].tolist() == [0.25, 2.0]
    assert weighted_loss(terms, LossWeights(l1=0.5)).tolist() == [0.125, 1.0]


@pytest.mark.needs_weights("lpips")
def test_the_terms_of_the_lite_loss_have_gradients_and_prefer_the_reference() -> None:
    results, references = _pair()
    loss = RestorationLoss(LOSS_PRESETS["lite"])
    assert loss.names == ("l1", "lpips", "critic")
    terms = loss(results, references)
    for name, value in terms.items():
        assert value.shape == (2,) and value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), results, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0, name
    same = loss(references, references)
    assert same["l1"].sum() == 0 and same["lpips"].sum() == pytest.approx(0, abs=1e-6)
    assert (terms["lpips"] > same["lpips"]).all()


def test_the_networks_of_the_loss_are_frozen() -> None:
    loss = RestorationLoss(LossWeights(l1=0.5, critic=0.5)).train()
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert not any(module.training for module in loss.nets.modules())


@pytest.mark.needs_weights("vgg16")
def test_vgg_uses_three_layers() -> None:
    results, references = _pair()
    vgg = VggDistance("vgg16")
    distances = vgg(results, references)
    assert vgg(references, references).tolist() == [0.0, 0.0]
    shapes = [tuple(layer.shape[1:]) for layer in vgg._extract_features(references)]
    assert shapes == [(128, 32, 32), (256, 16, 16), (512, 8, 8)]
    assert all(layer.min() == 0 for layer in vgg._extract_features(references)), (
        "the features come after a ReLU"
    )
    (gradient,) = torch.autograd.grad(distances.sum(), results)
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(distances[:1], vgg(results[:1], references[:1]), rtol=1e-4, atol=1e-5)


def test_the_error_names_the_missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "status", lambda name: "missing")
    with pytest.raises(MissingWeightsError, match=r"vgg19.*or opera-env weights fetch vgg16"):
        RestorationLoss(LossWeights(l1=0.4, vgg=0.1))


def test_scores_of_pyiqa_become_losses_with_gradients() -> None:
    import pyiqa

    torch.manual_seed(0)  # random weights suffice to check that gradients flow
    net = pyiqa.create_metric("musiq", pretrained=False, as_loss=True, loss_reduction="none", device="cpu")
    results, references = _pair(64)
    losses = _ScoreLoss(net.eval(), 100.0)(results, references)
    assert losses.shape == (2,)
    (gradient,) = torch.autograd.grad(losses.sum(), results)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
