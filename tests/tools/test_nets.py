"""The networks of our own toolbox: shapes, where they start, gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from opera_env.errors import ToolboxError
from opera_env.tools.nets import NETS, ConstantShift, GammaCorrection, UNet, build_net
from opera_env.tools.nets.unet import GlobalContext

IMAGE = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def _wake(net: torch.nn.Module) -> torch.nn.Module:
    """Gives every weight a value: the last layers start at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
@pytest.mark.parametrize("widths", [(4,), (4, 8), (4, 6, 8)])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("context", [False, True])
def test_shapes_and_multiple(unshuffle: int, widths: tuple[int, ...], scale: int, context: bool) -> None:
    net = _wake(UNet(widths, unshuffle, scale, context))
    multiple = unshuffle * 2 ** (len(widths) - 1)
    assert net.multiple == multiple
    image = torch.rand(2, 3, multiple, 3 * multiple)
    with torch.inference_mode():
        result = net(image)
    assert result.shape == (2, 3, scale * multiple, 3 * scale * multiple)
    assert result.isfinite().all()
    if multiple > 1:
        with pytest.raises(RuntimeError):
            net(torch.rand(1, 3, multiple, 3 * multiple - 1))


@pytest.mark.parametrize("context", [False, True])
def test_an_untrained_network_is_the_identity(context: bool) -> None:
    torch.manual_seed(0)
    assert torch.equal(UNet(global_context=context)(IMAGE), IMAGE)
    enlarged = UNet(scale=4, unshuffle=1, global_context=context)(IMAGE)
    expected = F.interpolate(IMAGE, scale_factor=4, mode="bicubic", antialias=True, align_corners=False)
    assert torch.equal(enlarged, expected)


def test_an_untrained_network_learns_from_the_first_step() -> None:
    """Zero weights at the end, but not so many zeros that no gradient comes through."""
    for options in ({}, {"global_context": True}, {"scale": 4, "unshuffle": 1}):
        torch.manual_seed(0)
        net = UNet(**options)  # type: ignore[arg-type]
        target = torch.rand(2, 3, *(side * net.scale for side in IMAGE.shape[-2:]))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        losses = []
        for _ in range(6):
            loss = (net(IMAGE) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert all(parameter.grad is not None for parameter in net.parameters())
        assert (
            sum(bool(parameter.grad.abs().sum() > 0) for parameter in net.parameters())
            > len(list(net.parameters())) - 6
        )  # a bias of a layer behind a ReLU may be dead


def test_every_size_of_batch_gives_the_same() -> None:
    net = _wake(UNet((4, 8), global_context=True))
    with torch.inference_mode():
        together = net(IMAGE)
        apart = torch.cat([net(IMAGE[:1]), net(IMAGE[1:])])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_global_context_sees_the_far_corner() -> None:
    """A local network's output depends on its surroundings only; global context reaches everywhere."""
    changed = torch.zeros(1, 3, 128, 128)
    changed[..., -8:, -8:] = 1
    corner = (slice(None), slice(None), slice(0, 8), slice(0, 8))
    with torch.inference_mode():
        local = _wake(UNet((4, 8)))
        assert torch.equal(local(changed)[corner], local(torch.zeros_like(changed))[corner])
        everywhere = _wake(UNet((4, 8), global_context=True))
        difference = everywhere(changed)[corner] - everywhere(torch.zeros_like(changed))[corner]
    assert difference.abs().max() > 1e-6


def test_global_context_knows_mean_and_spread() -> None:
    """One number tells a bright sky from a few lamps, both together do."""
    torch.manual_seed(0)
    context = _wake(GlobalContext(1))
    flat, lamps = torch.full((1, 1, 4, 4), 0.25), torch.zeros(1, 1, 4, 4)
    lamps[0, 0, :, 0] = 1  # as bright in the mean
    brighter = flat + 0.25
    with torch.inference_mode():
        effects = [(context(image) - image)[0, 0, 0, -1].item() for image in (flat, lamps, brighter)]
        assert context(flat).shape == flat.shape
        scale_and_shift = context.out(
            torch.tanh(
                context.hidden(torch.tensor([[0.25, 0.5]]))
            )  # mean and root mean square of the lamps
        )[0]
        expected = lamps * (1 + torch.tanh(scale_and_shift[0])) + scale_and_shift[1]
        torch.testing.assert_close(context(lamps), expected)
    assert len(set(effects)) == 3


def test_gamma_and_shift_by_hand() -> None:
    image = torch.tensor([0.0, 1 / 255, 0.25, 0.5, 1.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    expected = torch.tensor([1e-4, 0.024868, 0.396850, 0.629961, 1.0])  # x ** (1 / 1.5), 0 taken as 1e-6
    torch.testing.assert_close(GammaCorrection(1.5)(image)[0, 0, 0], expected, atol=1e-6, rtol=0)
    shifted = torch.tensor([40 / 255, 41 / 255, 0.25 + 40 / 255, 0.5 + 40 / 255, 1.0])
    torch.testing.assert_close(ConstantShift(40)(image)[0, 0, 0], shifted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("net", [GammaCorrection(1.5), ConstantShift(40)])
def test_brighteners_outside_the_range(net: torch.nn.Module) -> None:
    """Between tools images lie outside of [0, 1]; a power of a negative number is NaN."""
    image = torch.tensor([-3.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1.5, 30.0]).view(1, 1, 1, 8).repeat(1, 3, 1, 1)
    image.requires_grad_()
    result = net(image)
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1
    result.sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad[..., 4].gt(0).all(), "inside the range gradients pass"


def test_the_table_of_networks() -> None:
    assert set(NETS) == {"unet", "gamma", "shift"}
    assert isinstance(build_net("unet", {"widths": [4, 8]}), UNet)
    with pytest.raises(ToolboxError, match=r"unknown network 'nafnet'.*unet"):
        build_net("nafnet", {})
    with pytest.raises(ToolboxError, match="does not take"):
        build_net("gamma", {"gama": 2})
