"""The local tone curve: identity before training, black stays black, brightness keeps its order, tiles."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from opera_env.execution.tiles import restore_in_tiles
from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import LocalToneCurve


def _images(count: int = 2, height: int = 24, width: int = 32) -> Tensor:
    """Noise on a ramp, so that the statistics of every part differ from those of the whole."""
    noise = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    return (noise + torch.linspace(0, 1, width)) / 2


def _randomised(scale: float = 0.2, seed: int = 1) -> LocalToneCurve:
    generator, net = torch.Generator().manual_seed(seed), LocalToneCurve()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def test_an_untrained_network_is_the_identity_and_all_of_it_can_be_trained() -> None:
    torch.manual_seed(0)
    net, image = LocalToneCurve(), 3 * _images() - 1
    assert torch.equal(net(image), image)
    optimizer = torch.optim.SGD(net.parameters(), lr=1)
    for _ in range(2):
        optimizer.zero_grad()
        (net(_images()) - _images().sqrt()).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("scale", [0.2, 10.0])
@torch.inference_mode()
def test_black_stays_black_whatever_is_around_it(scale: float) -> None:
    image = _images(1, 40, 48)
    image[..., 10:20, 10:20] = 0
    image[..., 20:30, 10:20] = torch.tensor([0.0, 0.5, 0.0]).view(3, 1, 1)
    for seed in range(4):
        result = _randomised(scale, seed)(image)
        assert not result[..., 10:20, 10:20].any()
        assert not result[:, [0, 2], 20:30, 10:20].any(), "a channel without light stays without it"
        assert (result[:, 1, 20:30, 10:20] > 0).all()


@pytest.mark.parametrize("scale", [0.2, 1.0, 100.0])
@torch.inference_mode()
def test_curves_rise_without_steps(scale: float) -> None:
    """At one place a brighter pixel is brighter afterwards, and a smooth gradient stays smooth."""
    grey = torch.linspace(0, 1, 4096).expand(1, 3, 1, 4096)
    for seed in range(4):
        net = _randomised(scale, seed)
        curves, colour, _ = net.statistics(_images(1))
        place = torch.tensor([[0.0, 2048, 1, 1e6]])  # all pixels lie in about the same place
        rises = net(grey, (curves, colour, place)).diff(dim=-1)
        assert rises.min() > -1e-6
        assert rises.max() < 0.05


@torch.inference_mode()
def test_a_smooth_gradient_has_no_seams_across_the_image() -> None:
    """Where a picture has four times as many pixels, steps between them are a quarter as high."""
    net = _randomised(0.5)
    coarse, fine = (
        net((0.2 + 0.6 * torch.linspace(0, 1, width)).expand(1, 3, 64, width)).diff(dim=-1).abs().max()
        for width in (400, 1600)
    )
    assert fine < coarse / 3


@torch.inference_mode()
def test_pixels_of_equal_brightness_get_other_gains_in_another_place() -> None:
    image = _images(1, 64, 64)
    image[..., 5, 5] = image[..., 60, 60] = 0.3
    net = _randomised(0.5)
    result = net(image)
    assert (result[..., 5, 5] - result[..., 60, 60]).abs().max() > 0.01
    curves, colour, place = net.statistics(image)
    same = net(image, (curves.mean((2, 3), keepdim=True).expand_as(curves), colour, place))
    torch.testing.assert_close(same[..., 5, 5], same[..., 60, 60])


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (130, 70)])
@torch.inference_mode()
def test_images_of_any_size_are_accepted(size: tuple[int, int]) -> None:
    net = _randomised()
    curves, colour, place = net.statistics(_images(2, *size))
    assert (curves.shape, colour.shape, place.shape) == ((2, 9, 16, 16), (2, 3), (2, 4))
    assert net(_images(2, *size)).isfinite().all()


@torch.inference_mode()
def test_an_enlarged_image_gets_the_same_gains() -> None:
    net, image = _randomised(0.1), _images(1, 128, 192)
    twice = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(net(twice)[..., ::2, ::2], net(image), atol=0.02, rtol=0)


@torch.inference_mode()
def test_tiles_are_parts_of_the_result() -> None:
    net, image = _randomised(0.5), _images(1, 90, 130)
    whole, statistics = net(image), net.statistics(image)
    for top, left in itertools.product((0, 13, 60), (0, 50, 99)):
        tile = image[..., top : top + 30, left : left + 31]
        located = net(tile, net.locate(statistics, top, left))
        torch.testing.assert_close(located, whole[..., top : top + 30, left : left + 31])
    assert (net(image[..., :30, :31]) - whole[..., :30, :31]).abs().max() > 1e-3


@torch.inference_mode()
def test_a_large_image_restored_in_tiles_equals_the_whole() -> None:
    tool, image = Tool("expose.light", _randomised(0.5), halo=0), _images(1, 300, 400)
    whole = tool(image, (300, 400))
    tiled = restore_in_tiles(tool, image, (300, 400), 100 * 100)
    assert (whole - image).abs().max() > 0.05
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1e4])
def test_results_and_gradients_stay_bounded(scale: float) -> None:
    net = _randomised(scale)
    for image in (torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8), 1e4 * (_images() - 0.5)):
        image = image.clone().requires_grad_()
        result = net(image)
        assert (result - image).abs().max() < 3
        result.sum().backward()
        gradients = [image.grad, *(parameter.grad for parameter in net.parameters())]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.slow
def test_training_brightens_shadows_and_leaves_lights() -> None:
    """The left halves are darkened by any factor: no gain of the whole image restores them."""
    torch.manual_seed(0)
    generator, net = torch.Generator().manual_seed(0), LocalToneCurve(8)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)

    def batch() -> tuple[Tensor, Tensor]:
        bright = 0.3 + 0.7 * torch.rand(4, 3, 32, 32, generator=generator)
        gain = torch.ones(4, 1, 1, 32)
        gain[..., :16] = 0.2 + 0.4 * torch.rand(4, 1, 1, 1, generator=generator)
        return bright * gain, bright

    for _ in range(60):
        dark, bright = batch()
        loss = (net(dark) - bright).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    dark, bright = batch()
    constant = min((dark * gain - bright).abs().mean().item() for gain in torch.linspace(1, 3, 41))
    with torch.inference_mode():
        assert (net(dark) - bright).abs().mean() < constant / 2.5


@torch.inference_mode()
def test_a_toolbox_with_the_network_survives_saving(tmp_path: Path) -> None:
    net, image = _randomised(0.5), _images(1)
    Toolbox([Tool("expose.light", net, halo=0, net=("expose", {}))]).save(tmp_path / "toolbox")
    loaded = Toolbox.load(tmp_path / "toolbox")["expose.light"]
    assert (loaded.halo, loaded.uses_global_context) == (0, True)
    assert torch.equal(loaded(image, (24, 32)), net(image))


def test_layers_are_counted() -> None:
    """The network is small beside the U-Nets of the toolbox, which have over 300,000 weights."""
    assert sum(parameter.numel() for parameter in nn.ModuleList([LocalToneCurve()]).parameters()) < 60_000
