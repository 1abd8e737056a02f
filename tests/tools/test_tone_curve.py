"""The tone curve: identity before training, statistics of the whole image, bounded results."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from opera_env.tools import Tool
from opera_env.tools.nets import ConstantShift, GammaCorrection
from opera_env.tools.nets.tone_curve import ToneCurve

Make = Callable[[bool], nn.Module]
NETS: dict[str, Make] = {
    "gamma": lambda tone: GammaCorrection(tone=tone),
    "shift": lambda tone: ConstantShift(tone=tone),
}


def _images(count: int = 2, height: int = 24, width: int = 32) -> Tensor:
    """Noise on a ramp, so that the statistics of every part differ from those of the whole."""
    noise = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    return (noise + torch.linspace(0, 1, width)) / 2


def _randomise(net: nn.Module, scale: float = 0.1) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def test_an_untrained_curve_is_the_identity() -> None:
    image = 3 * _images() - 1
    assert torch.equal(ToneCurve()(image), image)


@pytest.mark.parametrize("name", NETS)
def test_an_untrained_curve_does_not_change_a_brightener(name: str) -> None:
    plain, with_curve = NETS[name](False), NETS[name](True)
    with torch.inference_mode():
        assert torch.equal(with_curve.eval()(_images()), plain(_images()))


@pytest.mark.parametrize("name", NETS)
def test_given_statistics_of_the_image_reproduce_its_result(name: str) -> None:
    tool = Tool("a.tool", _randomise(NETS[name](True), 0.02))
    assert tool.uses_global_context and not Tool("a.tool", NETS[name](False)).uses_global_context
    size = (24, 32)
    with torch.inference_mode():
        statistics = tool.statistics(_images())
        assert statistics
        expected = tool(_images(), size)
        assert torch.equal(tool.apply(_images(), False, statistics), expected)
        assert (tool.apply(_images(), False, (statistics[0] / 3,)) - expected).abs().max() > 1e-3


def test_a_tile_with_the_statistics_of_its_image_is_part_of_the_result() -> None:
    tone, image = _randomise(ToneCurve(), 0.02), _images(1)
    tile = image[..., :8]
    with torch.inference_mode():
        torch.testing.assert_close(tone(tile, tone.statistics(image)), tone(image)[..., :8])
        assert (tone(tile) - tone(image)[..., :8]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (500, 300)])
def test_images_of_any_size_are_accepted(size: tuple[int, int]) -> None:
    tone = _randomise(ToneCurve())
    with torch.inference_mode():
        assert tone.statistics(_images(2, *size)).shape == (2, 34)
        assert tone(_images(2, *size)).isfinite().all()


def test_the_curve_hardly_depends_on_the_size_of_the_image() -> None:
    tone, image = _randomise(ToneCurve(), 0.02), _images(1, 60, 80)
    twice = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.inference_mode():
        torch.testing.assert_close(tone(twice)[..., ::2, ::2], tone(image), atol=0.01, rtol=0)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1e4])
def test_results_and_gradients_stay_bounded(scale: float) -> None:
    tone = _randomise(ToneCurve(), scale)
    for image in (torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8), 1e4 * (_images() - 0.5)):
        image = image.clone().requires_grad_()
        result = tone(image)
        assert (result - image).abs().max() < 1e5 and result.isfinite().all()
        result.sum().backward()
        gradients = [image.grad, *(parameter.grad for parameter in tone.parameters())]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_training_beats_every_constant_gain() -> None:
    """Every image is darkened by a random factor, so that no constant gain restores them all."""
    generator = torch.Generator().manual_seed(0)
    tone = ToneCurve()
    optimizer = torch.optim.Adam(tone.parameters(), lr=1e-3)

    def batch() -> tuple[Tensor, Tensor]:
        bright = torch.rand(16, 3, 16, 16, generator=generator)
        gain = 0.3 + 0.7 * torch.rand(16, 1, 1, 1, generator=generator)
        return bright * gain, bright

    for _ in range(150):
        dark, bright = batch()
        loss = (tone(dark) - bright).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    dark, bright = batch()
    constant = min((dark * gain - bright).abs().mean().item() for gain in torch.linspace(1, 3, 41))
    with torch.inference_mode():
        assert (tone(dark) - bright).abs().mean() < constant / 3
