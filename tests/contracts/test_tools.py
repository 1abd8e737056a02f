"""Every tool of every shipped toolbox, and tools made of whatever users have, keep one contract."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Tool, Toolbox

SHIPPED = ("lite",)
KINDS = (*SHIPPED, "curves", "users")


class _Folded(nn.Module):
    """A stand-in for networks with windows: takes multiples of 8 only, from 16 pixels on."""

    def forward(self, image: Tensor) -> Tensor:
        assert min(image.shape[-2:]) >= 16
        return nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(image, 8), 8) * 0.9


@cache
def get_toolbox(kind: str) -> Toolbox:
    if kind == "curves":
        return Toolbox.load("lite-cotrained").subset(
            ["brighten.gamma_correction", "brighten.constant_shift"]
        )
    if kind != "users":
        return Toolbox.load(kind)
    box = (
        Toolbox()
        .add("users.function", lambda image: image.flip(1))
        .add("users.double_precision", lambda image: image.double() / 2)
        .add("users.module", nn.Conv2d(3, 3, 5, padding=2))
        .add("users.enlarge-x2", nn.Upsample(scale_factor=2, mode="bilinear"), scale=2)
        .add("users.window_1", _Folded(), multiple=8)
    )
    box._tools["users.window_1"] = replace(box["users.window_1"], minimum=16)
    return box


every_tool = pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS for name in get_toolbox(kind).names],
)
sizes = pytest.mark.parametrize("size", [(33, 47), (64, 32), (17, 16), (1, 1)], ids=str)


@pytest.fixture
def tool(kind: str, name: str) -> Tool:
    return get_toolbox(kind)[name]


def images(count: int, size: tuple[int, int], low: float = 0.0, high: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(size[0])
    return torch.rand(count, 3, *size, generator=generator) * (high - low) + low


@every_tool
@sizes
@torch.inference_mode()
def test_size_type_and_values(tool: Tool, size: tuple[int, int]) -> None:
    """At canvas size every tool keeps the size, whatever its scale and its multiple."""
    image = images(2, size)
    result = tool(image, size)
    assert result.shape == image.shape
    assert result.dtype == torch.float32
    assert result.isfinite().all()


@every_tool
@pytest.mark.parametrize(
    "canvas", [(132, 188), (33, 48), (34, 47), (1000, 1000)], ids=["x4", "wider", "taller", "larger"]
)
@torch.inference_mode()
def test_it_grows_while_smaller_than_the_canvas(tool: Tool, canvas: tuple[int, int]) -> None:
    result = tool(images(1, (33, 47)), canvas)
    assert result.shape == (1, 3, 33 * tool.scale, 47 * tool.scale)
    assert tool.upscales((33, 47), canvas) == (tool.scale > 1)


@every_tool
@torch.inference_mode()
def test_it_never_grows_beyond_the_canvas(tool: Tool) -> None:
    for canvas in ((33, 47), (20, 20), (1, 47)):
        assert not tool.upscales((33, 47), canvas)
        assert tool(images(1, (33, 47)), canvas).shape == (1, 3, 33, 47)


@every_tool
@torch.inference_mode()
def test_what_lies_outside_the_range_does_no_harm(tool: Tool) -> None:
    """Between tools nothing is clamped."""
    assert tool(images(2, (33, 47), low=-0.5, high=1.5), (33, 47)).isfinite().all()
    for value in (-1.0, 0.0, 1.0, 2.0):
        assert tool(torch.full((1, 3, 33, 47), value), (33, 47)).isfinite().all()


@every_tool
@torch.inference_mode()
def test_nothing_beyond_the_halo_matters(tool: Tool) -> None:
    """Large images are cut into tiles by it; statistics of the whole image are handed over apart."""
    if tool.halo is None:
        pytest.skip("nobody has said how far this tool looks")
    side, place = 2 * tool.halo + 64, slice(tool.halo + 28, tool.halo + 36)
    before = images(1, (side, side))
    after = before.clone()
    after[..., place, place] = 1 - after[..., place, place]
    statistics = tool.statistics(before)
    change = tool.apply(before, False, statistics) - tool.apply(after, False, statistics)
    reach = tool.halo + 2 * (tool.scale > 1)  # resampling looks two pixels further
    near = slice(place.start - reach, place.stop + reach)
    assert change[..., near, near].abs().max() > 0
    change[..., near, near] = 0
    assert change.abs().max() <= 1e-6


@every_tool
@torch.inference_mode()
def test_it_stays_within_reason_whatever_it_is_shown(tool: Tool) -> None:
    """A tool for one damage is shown all others, at any size: none may answer with nonsense."""
    for side in (64, 192, 512):
        ramp = torch.linspace(0, 1, side).expand(1, 3, side, side)
        for image in (images(1, (side, side)), ramp, (ramp > 0.9).float()):
            result = tool(image, (side, side))
            assert result.min() > -4
            assert result.max() < 5


@every_tool
@torch.inference_mode()
def test_equal_images_give_equal_bits(tool: Tool) -> None:
    image = images(1, (33, 47))
    assert torch.equal(tool(image, (33, 47)), tool(image.clone(), (33, 47)))


@every_tool
@sizes
@torch.inference_mode()
def test_a_batch_is_its_images(tool: Tool, size: tuple[int, int]) -> None:
    batch = images(5, size)
    together = tool(batch, size)
    alone = torch.cat([tool(image[None], size) for image in batch])
    assert (together - alone).abs().max() <= 1e-4


@every_tool
@torch.inference_mode()
def test_memory_layout_does_not_matter(tool: Tool) -> None:
    batch = images(2, (33, 47))
    for other in (batch.contiguous(memory_format=torch.channels_last), batch.repeat(2, 1, 1, 1)[::2]):
        expected = tool(other.clone(memory_format=torch.contiguous_format), (33, 47))
        assert (tool(other, (33, 47)) - expected).abs().max() <= 1e-4


@every_tool
@sizes
@torch.inference_mode()
def test_the_input_is_left_alone(tool: Tool, size: tuple[int, int]) -> None:
    image = images(2, size)
    kept = image.clone()
    result = tool(image, size)
    result.add_(1)
    if result.data_ptr() == image.data_ptr():
        pytest.fail("the result is the input itself")
    assert torch.equal(image, kept)


@every_tool
def test_multiples_are_the_tools_own_affair(tool: Tool) -> None:
    """The network is given padded sides, and only as much padding as its multiple asks."""
    given: list[tuple[int, ...]] = []

    def spy(image: Tensor) -> Tensor:
        given.append(tuple(image.shape[-2:]))
        return tool.restore(image)

    watched = replace(tool, restore=spy)
    with torch.inference_mode():
        for size in ((33, 47), (1, 1), (8 * tool.multiple, 8 * tool.multiple)):
            watched(images(1, size), size)
    assert all(side % tool.multiple == 0 and side >= tool.minimum for pair in given for side in pair)
    assert all(side < 47 + max(tool.multiple, tool.minimum) for side in given[0])
    assert given[2] == (8 * tool.multiple, 8 * tool.multiple)


@every_tool
def test_it_runs_with_and_without_gradients(tool: Tool) -> None:
    """And gives the same image; the executor wants the one, co-training the other."""
    image = images(1, (33, 47))
    with torch.no_grad():
        plain = tool(image, (33, 47))
    with torch.inference_mode():
        inferred = tool(image, (33, 47))
    image.requires_grad_()
    trained = tool(image, (33, 47))
    assert not plain.requires_grad
    assert torch.allclose(plain, inferred, atol=1e-5) and torch.allclose(plain, trained, atol=1e-5)


@every_tool
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, None])
def test_gradients_are_finite(tool: Tool, value: float | None) -> None:
    """At the ends of the range too: one infinite gradient spoils a chain of tools."""
    image = (images(1, (16, 24)) if value is None else torch.full((1, 3, 16, 24), value)).requires_grad_()
    tool(image, (16, 24)).square().mean().backward()
    assert image.grad is not None and image.grad.isfinite().all()
    if tool.module is not None:
        for parameter in tool.module.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all()
            parameter.grad = None


@every_tool
def test_a_network_is_in_evaluation_mode(tool: Tool) -> None:
    if tool.module is not None:
        assert not any(module.training for module in tool.module.modules())


@every_tool
def test_its_name_can_be_written_in_a_plan(tool: Tool, kind: str) -> None:
    pattern = r"[a-z0-9]+\.[a-z0-9_]+" if kind in SHIPPED else r"[A-Za-z0-9][A-Za-z0-9_.\-]*"
    assert re.fullmatch(pattern, tool.name)


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_shipped_toolbox_says_what_its_tools_are_for(kind: str) -> None:
    toolbox = get_toolbox(kind)
    assert all(tool.degradations for tool in toolbox)
    mended = frozenset().union(*(tool.degradations for tool in toolbox))
    assert mended == set(DEGRADATIONS)


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_shipped_toolbox_loads_the_same_twice(kind: str) -> None:
    one, other = Toolbox.load(kind), Toolbox.load(kind)
    assert (one.names, one.signature, one.fingerprint) == (other.names, other.signature, other.fingerprint)


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_shipped_toolbox_survives_saving(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    toolbox = get_toolbox(kind)
    folder = tmp_path_factory.mktemp(kind)
    toolbox.save(folder)
    again = Toolbox.load(folder)
    assert again.signature == toolbox.signature
    image = images(1, (33, 47))
    with torch.inference_mode():
        for name in toolbox.names:
            assert torch.equal(again[name](image, (66, 94)), toolbox[name](image, (66, 94)))


@pytest.mark.parametrize("kind", SHIPPED)
def test_no_tool_names_a_degradation_that_does_not_exist(kind: str) -> None:
    for tool in get_toolbox(kind):
        assert tool.degradations <= set(DEGRADATIONS)


def test_a_result_of_another_size_is_refused(make_toolbox: Callable[[], Toolbox]) -> None:
    toolbox = make_toolbox().add("users.wrong", lambda image: image[..., 1:, :])
    with pytest.raises(ValueError, match=r"expected .*\(1, 3, 8, 8\), found \(1, 3, 7, 8\)"):
        toolbox["users.wrong"](torch.zeros(1, 3, 8, 8), (8, 8))
