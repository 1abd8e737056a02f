"""The networks of the lite toolbox: shapes, initialisation, gradients, global statistics."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from spandrel.architectures.NAFNet import NAFNet as SpandrelNAFNet
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.errors import ToolboxError
from opera_env.tools import Tool
from opera_env.tools.nets import NETS, ConstantShift, GammaCorrection, NAFNet, UNet, build_net
from opera_env.tools.nets.unet import GlobalContext

IMAGE = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def _randomise(net: torch.nn.Module) -> torch.nn.Module:
    """Gives every weight a random value; the last layers are initialised with zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
@pytest.mark.parametrize("widths", [(4,), (4, 8), (4, 6, 8)])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("context", [False, True])
def test_shape_and_multiple_of_unet(
    unshuffle: int, widths: tuple[int, ...], scale: int, context: bool
) -> None:
    net = _randomise(UNet(widths, unshuffle, scale, context))
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


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_blocks_adds_residual_blocks(blocks: int) -> None:
    net = _randomise(UNet((4, 8), 2, 4, blocks=blocks))
    assert net.multiple == 4
    with torch.inference_mode():
        assert net(IMAGE).shape == (2, 3, 96, 128)
    counts = [sum(p.numel() for p in UNet((4, 8), blocks=n).parameters()) for n in (1, blocks)]
    row = sum(2 * (9 * width**2 + width) for width in (4, 8, 4))
    assert counts[1] - counts[0] == (blocks - 1) * row


def _receptive_radius(net: nn.Module, side: int) -> int:
    """Largest distance at which an input pixel changes an output pixel, over one period of the grid."""
    radius = 0
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2)).requires_grad_()
    statistics = net.statistics(image.detach()) if getattr(net, "global_context", False) else None
    given = None if statistics is None else tuple(value.detach() for value in statistics)
    scale = getattr(net, "scale", 1)
    for offset in range(net.multiple):
        start = side // 2 + offset
        pixel = net(image, given)[
            ..., start * scale : (start + 1) * scale, start * scale : (start + 1) * scale
        ]
        (gradient,) = torch.autograd.grad(pixel.sum(), image)
        rows, columns = gradient.abs().sum((0, 1)).nonzero(as_tuple=True)
        assert len(rows)
        radius = max(radius, int((torch.cat([rows, columns]) - start).abs().max()))
    return radius


@pytest.mark.parametrize(
    ("make", "side"),
    [
        (lambda: UNet((4, 8)), 96),
        (lambda: UNet((4, 8), blocks=2), 128),
        (lambda: UNet((4, 8), blocks=2, global_context=True), 128),
        (lambda: UNet((4, 8), 1, 4, blocks=3), 128),
        (lambda: UNet((4, 6, 8), 1, blocks=2), 160),
        (lambda: NAFNet(4), 128),
        (lambda: NAFNet(4, (1,), 1, (1,), unshuffle=1), 64),
        (lambda: NAFNet(4, (2, 1), 1, (1, 2), unshuffle=1), 96),
        (lambda: NAFNet(4, (), 2, (), unshuffle=2), 64),
    ],
)
def test_the_halo_is_the_receptive_field_radius(make: Callable[[], nn.Module], side: int) -> None:
    """No pixel beyond the halo changes a result, and most of the halo is used."""
    torch.manual_seed(0)
    net = make()
    with torch.no_grad():
        for parameter in net.parameters():  # positive, so that no ReLU or zero blocks a path
            parameter.copy_(0.05 + 0.05 * torch.rand(parameter.shape))
    net = net.double().eval()
    torch.set_default_dtype(torch.float64)
    try:
        radius = _receptive_radius(net, side)
    finally:
        torch.set_default_dtype(torch.float32)
    assert net.halo < side // 2 - net.multiple, "the image must be larger than the halo"
    assert 0.6 * net.halo <= radius <= net.halo


@pytest.mark.parametrize("context", [False, True])
def test_an_untrained_unet_is_the_identity(context: bool) -> None:
    torch.manual_seed(0)
    assert torch.equal(UNet(global_context=context)(IMAGE), IMAGE)
    enlarged = UNet(scale=4, unshuffle=1, global_context=context)(IMAGE)
    expected = F.interpolate(IMAGE, scale_factor=4, mode="bicubic", antialias=True, align_corners=False)
    assert torch.equal(enlarged, expected)


def test_an_untrained_unet_can_be_trained() -> None:
    """The last layer starts with zeros, but gradients reach all layers after the first step."""
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
        )  # the bias of a layer behind a ReLU may have a gradient of zero


def test_results_do_not_depend_on_the_batch_size() -> None:
    net = _randomise(UNet((4, 8), global_context=True))
    with torch.inference_mode():
        together = net(IMAGE)
        separate_results = torch.cat([net(IMAGE[:1]), net(IMAGE[1:])])
    torch.testing.assert_close(together, separate_results, atol=1e-5, rtol=0)


def test_global_context_depends_on_the_whole_image() -> None:
    """Without global context, a change in one corner does not affect the opposite corner."""
    changed = torch.zeros(1, 3, 128, 128)
    changed[..., -8:, -8:] = 1
    corner = (slice(None), slice(None), slice(0, 8), slice(0, 8))
    with torch.inference_mode():
        local = _randomise(UNet((4, 8)))
        assert torch.equal(local(changed)[corner], local(torch.zeros_like(changed))[corner])
        with_context = _randomise(UNet((4, 8), global_context=True))
        difference = with_context(changed)[corner] - with_context(torch.zeros_like(changed))[corner]
    assert difference.abs().max() > 1e-6


def test_global_context_uses_mean_and_root_mean_square() -> None:
    """The mean alone does not distinguish a uniform image from a dark one with a bright stripe."""
    torch.manual_seed(0)
    context = _randomise(GlobalContext(1))
    flat, stripe = torch.full((1, 1, 4, 4), 0.25), torch.zeros(1, 1, 4, 4)
    stripe[0, 0, :, 0] = 1  # the same mean as the uniform image
    brighter = flat + 0.25
    with torch.inference_mode():
        effects = [(context(image) - image)[0, 0, 0, -1].item() for image in (flat, stripe, brighter)]
        assert context(flat).shape == flat.shape
        scale_and_shift = context.out(
            torch.tanh(
                context.hidden(torch.tensor([[0.25, 0.5]]))
            )  # mean and root mean square of the stripe
        )[0]
        expected = stripe * (1 + torch.tanh(scale_and_shift[0])) + scale_and_shift[1]
        torch.testing.assert_close(context(stripe), expected)
    assert len(set(effects)) == 3


def test_gamma_and_shift_by_hand() -> None:
    image = torch.tensor([0.0, 1 / 255, 0.25, 0.5, 1.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    expected = torch.tensor([1e-4, 0.024868, 0.396850, 0.629961, 1.0])  # x ** (1 / 1.5), 0 taken as 1e-6
    torch.testing.assert_close(GammaCorrection(1.5)(image)[0, 0, 0], expected, atol=1e-6, rtol=0)
    shifted = torch.tensor([40 / 255, 41 / 255, 0.25 + 40 / 255, 0.5 + 40 / 255, 1.0])
    torch.testing.assert_close(ConstantShift(40)(image)[0, 0, 0], shifted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("net", [GammaCorrection(1.5), ConstantShift(40)])
def test_brighteners_accept_values_outside_the_range(net: torch.nn.Module) -> None:
    """Between tools, values may lie outside [0, 1]; a power of a negative number would be NaN."""
    image = torch.tensor([-3.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1.5, 30.0]).view(1, 1, 1, 8).repeat(1, 3, 1, 1)
    image.requires_grad_()
    result = net(image)
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1
    result.sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad[..., 4].gt(0).all(), "gradients pass for values inside the range"


def _nafnet(**options: object) -> NAFNet:
    """A NAFNet with random weights: those of an untrained one make it the identity."""
    torch.manual_seed(1)
    net = NAFNet(**{"width": 4, "encoder": (1,), "middle": 1, "decoder": (1,), **options})  # type: ignore[arg-type]
    net.body.ending.reset_parameters()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("beta", "gamma")):
                parameter.normal_()
            elif name.endswith("sca.1.weight"):  # so that channel attention has an effect
                parameter.mul_(30)
    return net.eval()


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_shape_and_multiple_of_nafnet(unshuffle: int, levels: int) -> None:
    net = _nafnet(encoder=(1,) * levels, decoder=(1,) * levels, unshuffle=unshuffle)
    assert net.multiple == unshuffle * 2**levels
    image = torch.rand(2, 3, net.multiple, 3 * net.multiple)
    with torch.inference_mode():
        result = net(image)
    assert result.shape == image.shape
    assert result.isfinite().all()


def test_an_untrained_nafnet_is_the_identity_and_can_be_trained() -> None:
    torch.manual_seed(0)
    net = NAFNet(4)
    assert torch.equal(net(IMAGE), IMAGE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    losses = []
    for _ in range(6):
        loss = (net(IMAGE) - IMAGE.flip(0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("given", [False, True])
def test_gradients_reach_every_parameter_of_nafnet(given: bool) -> None:
    net = _nafnet(encoder=(1, 2), middle=2, decoder=(1, 1))
    statistics = net.statistics(IMAGE) if given else None
    net(IMAGE, statistics).square().sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_nafnet_equals_spandrels_definition() -> None:
    """The same weights in the definition of the authors give the same image."""
    net = _nafnet(encoder=(1, 2), middle=2, decoder=(2, 1), unshuffle=1)
    spandrel_net = SpandrelNAFNet(
        width=4, middle_blk_num=2, enc_blk_nums=[1, 2], dec_blk_nums=[2, 1]
    ).eval()
    spandrel_net.load_state_dict(net.body.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(net(IMAGE), spandrel_net(IMAGE), atol=1e-5, rtol=0)
        assert (net(IMAGE) - IMAGE).abs().max() > 0.1


def _ramp() -> Tensor:
    """Dark on one side and bright on the other, so that the statistics of every part differ."""
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    return (noise + torch.linspace(0, 1, 64)) / 2


def test_given_statistics_of_the_image_reproduce_the_result_of_nafnet() -> None:
    net = _nafnet()
    with torch.inference_mode():
        expected = net(IMAGE)
        assert torch.equal(net(IMAGE, net.statistics(IMAGE)), expected)
        shifted = tuple(value + 1 for value in net.statistics(IMAGE))
        assert not torch.allclose(net(IMAGE, shifted), expected, atol=1e-3), "the statistics have an effect"


@pytest.mark.parametrize(("left", "right"), [(0, 40), (20, 64), (12, 52)])
def test_a_tile_with_the_statistics_of_its_image_is_part_of_the_result(left: int, right: int) -> None:
    net, image = _nafnet(unshuffle=1), _ramp()
    assert net.halo < 15
    inner = slice(left + net.halo if left else 0, right - net.halo if right < 64 else 64)
    tile = image[..., left:right]
    with torch.inference_mode():
        statistics = net.statistics(image)
        expected = net(image)[..., inner]
        with_statistics = net(tile, statistics)[..., inner.start - left : inner.stop - left]
        without_statistics = net(tile)[..., inner.start - left : inner.stop - left]
    assert expected.shape[-1] > 10
    torch.testing.assert_close(with_statistics, expected, atol=1e-5, rtol=0)
    assert (without_statistics - expected).abs().max() > 1e-3, "the statistics have an effect"


def test_statistics_of_one_image_apply_to_a_batch_of_its_tiles() -> None:
    net, image = _nafnet(), _ramp()
    tiles = torch.cat([image[..., :32], image[..., 32:]])
    with torch.inference_mode():
        statistics = net.statistics(image)
        together = net(tiles, statistics)
        tile_results = torch.cat([net(tile[None], statistics) for tile in tiles])
    torch.testing.assert_close(together, tile_results, atol=1e-5, rtol=0)


def test_nafnet_does_not_keep_given_statistics() -> None:
    net, image = _nafnet(), _ramp()
    with torch.inference_mode():
        plain, other_result = net(image), net(IMAGE)
        statistics = net.statistics(image)
        assert torch.equal(net(image), plain)
        net(IMAGE, statistics)
        assert torch.equal(net(IMAGE), other_result)
        # The same after an error: 25 columns cannot be unshuffled, and 3 channels are the wrong number.
        with pytest.raises(RuntimeError):
            net(IMAGE[..., :25], statistics)
        with pytest.raises(RuntimeError):
            net(IMAGE, tuple(value[:, :3] for value in statistics))
        with pytest.raises(RuntimeError):
            net.statistics(IMAGE[..., :25])
        assert torch.equal(net(IMAGE), other_result)
        assert all(map(torch.equal, net.statistics(image), statistics))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
def test_a_copy_of_nafnet_is_independent(duplicate: Callable[[NAFNet], NAFNet]) -> None:
    net, image = _nafnet(), _ramp()
    with torch.inference_mode():
        statistics, plain = net.statistics(image), net(IMAGE)
        expected = net(IMAGE, statistics)
    copy_of_net = duplicate(net)
    with torch.inference_mode():
        assert torch.equal(copy_of_net(IMAGE), plain)
        assert torch.equal(copy_of_net(IMAGE, statistics), expected), "the copy uses the statistics itself"
        assert all(map(torch.equal, copy_of_net.statistics(image), statistics))
    with torch.no_grad():
        for parameter in copy_of_net.parameters():
            parameter.zero_()
    with torch.inference_mode():
        assert torch.equal(copy_of_net(IMAGE), IMAGE)
        assert torch.equal(net(IMAGE), plain)
        assert torch.equal(net(IMAGE, statistics), expected)


def test_a_tool_uses_the_global_context_of_nafnet() -> None:
    tool = Tool("a.nafnet", _nafnet(), multiple=4)
    assert tool.uses_global_context
    image = IMAGE[..., :23, :30]
    with torch.inference_mode():
        statistics = tool.statistics(image)
        assert statistics is not None
        torch.testing.assert_close(tool.apply(image, False, statistics), tool(image, (23, 30)))


def test_networks_are_built_by_kind_and_options() -> None:
    assert set(NETS) == {
        "unet",
        "nafnet",
        "gamma",
        "shift",
        "expose",
        "restormer",
        "xrestormer",
        "promptir",
    }
    assert isinstance(build_net("unet", {"widths": [4, 8]}), UNet)
    assert isinstance(build_net("nafnet", {"width": 8, "encoder": [1], "decoder": [1]}), NAFNet)
    with pytest.raises(ToolboxError, match=r"unknown network 'swinir'.*unet, nafnet"):
        build_net("swinir", {})
    with pytest.raises(ToolboxError, match="does not accept"):
        build_net("gamma", {"gama": 2})
