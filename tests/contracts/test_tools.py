"""The contract of tools, checked on the shipped toolbox and on tools that users add.

The fast suite checks one shipped tool of each architecture; tests marked slow check all the others, which
differ from them in width and weights only.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net
from tests.programs import write_onnx
from tests.published_nets import small_tools
from tests.served import serving

SHIPPED = ("lite",)
KINDS = (*SHIPPED, "curves", "expose", "networks", "users")
SLOW_NETWORKS = ("xrestormer", "promptir")
"""Networks that share most of their code with Restormer, and are run by the slow tests only."""
SIZES = ((33, 47), (64, 32), (17, 16), (1, 1))


class _WindowNet(nn.Module):
    """A stand-in for networks with windows: takes multiples of 8 only, from 16 pixels on."""

    def forward(self, image: Tensor) -> Tensor:
        assert min(image.shape[-2:]) >= 16
        return nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(image, 8), 8) * 0.9


class _Served(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.flip(1) * 0.9


@cache
def get_toolbox(kind: str) -> Toolbox:
    if kind == "curves":
        return Toolbox.load("lite-cotrained").subset(
            ["brighten.gamma_correction", "brighten.constant_shift"]
        )
    if kind == "expose":
        return Toolbox([_random_local_curve()])
    if kind == "networks":
        return Toolbox(small_tools())
    if kind == "served":
        return Toolbox().add("users.served", SERVER.enter_context(serving(_Served())))
    if kind in ("onnx", "exported"):
        return _make_program(kind)
    if kind != "users":
        return Toolbox.load(kind)
    box = (
        Toolbox()
        .add("users.function", lambda image: image.flip(1))
        .add("users.double_precision", lambda image: image.double() / 2)
        .add("users.module", nn.Conv2d(3, 3, 5, padding=2))
        .add("users.enlarge-x2", nn.Upsample(scale_factor=2, mode="bilinear"), scale=2)
        .add("users.window_1", _WindowNet(), multiple=8)
    )
    box._tools["users.window_1"] = replace(box["users.window_1"], minimum=16)
    return box


def _random_local_curve() -> Tool:
    """Random weights, because no shipped toolbox has this network, and untrained it does nothing."""
    net, generator = build_net("expose", {}), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return Tool(
        "expose.light", net.eval(), halo=0, degradations=frozenset({"low_light"}), net=("expose", {})
    )


def parametrized_tools() -> Iterator[Any]:
    """All tools; of several with one architecture, all but the one with the fewest weights are slow."""
    for kind in KINDS:
        tools = list(get_toolbox(kind))
        by_size = sorted(tools, key=lambda tool: sum(weight.numel() for weight in tool.parameters))
        smallest = {architecture(tool): tool.name for tool in reversed(by_size)}
        for tool in tools:
            is_smallest = smallest[architecture(tool)] == tool.name and not is_slow_network(tool)
            yield pytest.param(kind, tool.name, marks=() if is_smallest else pytest.mark.slow)


def architecture(tool: Tool) -> tuple[object, ...]:
    """What tells tools of a toolbox apart in code; for a tool without a known network, its name."""
    return (tool.net[0] if tool.net else tool.name, tool.scale, tool.statistics_source)


def is_slow_network(tool: Tool) -> bool:
    return tool.net is not None and tool.net[0] in SLOW_NETWORKS


PROGRAMS = (
    pytest.param("onnx", "users.onnx"),
    pytest.param("exported", "users.exported", marks=pytest.mark.slow),
    pytest.param("served", "users.served"),
)
"""Tools from files of programs and from a server; each is made when the first test needs it."""

every_tool = pytest.mark.parametrize(("kind", "name"), [*parametrized_tools(), *PROGRAMS])


SERVER = ExitStack()
"""Holds the server while tests of this module run."""


@pytest.fixture(scope="module", autouse=True)
def _no_server_stays() -> Iterator[None]:
    yield
    SERVER.close()
    get_toolbox.cache_clear()  # pytest-xdist may come back to this module after others


def _make_program(kind: str) -> Toolbox:
    with tempfile.TemporaryDirectory() as folder:
        if kind == "onnx":
            return Toolbox().add("users.onnx", write_onnx(Path(folder) / "net.onnx"), halo=1)
        program = torch.export.export(nn.Conv2d(3, 3, 5, padding=2), (torch.rand(1, 3, 48, 32),))
        torch.export.save(program, Path(folder) / "net.pt2")
        return Toolbox().add("users.exported", Path(folder) / "net.pt2")


@pytest.fixture
def tool(kind: str, name: str) -> Tool:
    return get_toolbox(kind)[name]


def images(count: int, size: tuple[int, int], low: float = 0.0, high: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(size[0])
    return torch.rand(count, 3, *size, generator=generator) * (high - low) + low


def test_the_fast_suite_has_every_architecture() -> None:
    fast = [param.values for param in parametrized_tools() if not param.marks]
    assert [name for kind, name in fast if kind == "lite"] == [
        "unet.denoise",
        "nafnet.denoise_15",
        "unet.dehaze",
        "unet.super_resolution_lpips",
        "brighten.gamma_correction",
        "brighten.constant_shift",
    ]
    assert {architecture(get_toolbox(kind)[name]) for kind, name in fast} == {
        architecture(tool) for kind in KINDS for tool in get_toolbox(kind) if not is_slow_network(tool)
    }


@every_tool
@torch.inference_mode()
def test_result_has_canvas_size_and_is_finite(tool: Tool) -> None:
    """At canvas size every tool keeps the size, whatever its scale and its multiple."""
    for size in SIZES:
        image = images(2, size)
        result = tool(image, size)
        assert result.shape == image.shape, size
        assert result.dtype == torch.float32, size
        assert result.isfinite().all(), size


@every_tool
@torch.inference_mode()
def test_an_image_smaller_than_the_canvas_is_upscaled(tool: Tool) -> None:
    """The canvas is four times as large, wider, taller, and larger than any result."""
    for canvas in ((132, 188), (33, 48), (34, 47), (1000, 1000)):
        result = tool(images(1, (33, 47)), canvas)
        assert result.shape == (1, 3, 33 * tool.scale, 47 * tool.scale), canvas
        assert tool.upscales((33, 47), canvas) == (tool.scale > 1), canvas


@every_tool
@torch.inference_mode()
def test_no_image_is_upscaled_beyond_the_canvas(tool: Tool) -> None:
    for canvas in ((33, 47), (20, 20), (1, 47)):
        assert not tool.upscales((33, 47), canvas), canvas
        assert tool(images(1, (33, 47)), canvas).shape == (1, 3, 33, 47), canvas


@every_tool
@torch.inference_mode()
def test_values_outside_the_range_give_finite_results(tool: Tool) -> None:
    """Images are not clamped between tools."""
    assert tool(images(2, (33, 47), low=-0.5, high=1.5), (33, 47)).isfinite().all()
    for value in (-1.0, 0.0, 1.0, 2.0):
        assert tool(torch.full((1, 3, 33, 47), value), (33, 47)).isfinite().all(), value


@every_tool
@torch.inference_mode()
def test_pixels_beyond_the_halo_have_no_effect(tool: Tool) -> None:
    """Large images are cut into tiles with it; statistics of the whole image are passed separately."""
    if tool.halo is None:
        pytest.skip("this tool has no known halo")
    side, place = 2 * tool.halo + 64, slice(tool.halo + 28, tool.halo + 36)
    before = images(1, (side, side))
    after = before.clone()
    after[..., place, place] = 1 - after[..., place, place]
    statistics = tool.statistics(before)
    change = tool.apply(before, False, statistics) - tool.apply(after, False, statistics)
    reach = tool.halo + 2 * (tool.scale > 1)  # resampling reads two pixels further
    near = slice(place.start - reach, place.stop + reach)
    assert change[..., near, near].abs().max() > 0
    change[..., near, near] = 0
    assert change.abs().max() <= 1e-6


@every_tool
@torch.inference_mode()
def test_results_stay_near_the_range_for_any_content(tool: Tool) -> None:
    """A tool for one degradation is run on all others too, at any size."""
    for side in (64, 192, 512):
        ramp = torch.linspace(0, 1, side).expand(1, 3, side, side)
        for content, image in (
            ("noise", images(1, (side, side))),
            ("ramp", ramp),
            ("edge", (ramp > 0.9).float()),
        ):
            result = tool(image, (side, side))
            assert result.min() > -4, (side, content)
            assert result.max() < 5, (side, content)


@every_tool
@torch.inference_mode()
def test_equal_images_give_equal_bits(tool: Tool) -> None:
    image = images(1, (33, 47))
    assert torch.equal(tool(image, (33, 47)), tool(image.clone(), (33, 47)))


@every_tool
@torch.inference_mode()
def test_a_batch_equals_its_images_one_by_one(tool: Tool) -> None:
    for size in SIZES:
        batch = images(5, size)
        together = tool(batch, size)
        alone = torch.cat([tool(image[None], size) for image in batch])
        assert (together - alone).abs().max() <= 1e-4, size


@every_tool
@torch.inference_mode()
def test_memory_layout_does_not_matter(tool: Tool) -> None:
    batch = images(2, (33, 47))
    for layout in (batch.contiguous(memory_format=torch.channels_last), batch.repeat(2, 1, 1, 1)[::2]):
        expected = tool(layout.clone(memory_format=torch.contiguous_format), (33, 47))
        assert (tool(layout, (33, 47)) - expected).abs().max() <= 1e-4


@every_tool
@torch.inference_mode()
def test_the_input_is_left_unchanged(tool: Tool) -> None:
    for size in SIZES:
        image = images(2, size)
        original = image.clone()
        result = tool(image, size)
        result.add_(1)
        if result.data_ptr() == image.data_ptr():
            pytest.fail(f"the result is the input itself, at {size}")
        assert torch.equal(image, original), size


@every_tool
def test_the_network_is_given_padded_sides(tool: Tool) -> None:
    """Multiples of its ``multiple``, at least its ``minimum``, and no more padding than that needs."""
    given: list[tuple[int, ...]] = []

    def spy(image: Tensor) -> Tensor:
        given.append(tuple(image.shape[-2:]))
        return tool.restore(image)

    recorded = replace(tool, restore=spy)
    with torch.inference_mode():
        for size in ((33, 47), (1, 1), (8 * tool.multiple, 8 * tool.multiple)):
            recorded(images(1, size), size)
    assert all(side % tool.multiple == 0 and side >= tool.minimum for pair in given for side in pair)
    assert all(side < 47 + max(tool.multiple, tool.minimum) for side in given[0])
    assert given[2] == (8 * tool.multiple, 8 * tool.multiple)


@every_tool
def test_results_are_equal_with_and_without_gradients(tool: Tool) -> None:
    """The executor runs tools without gradients, co-training with them."""
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
def test_gradients_are_finite(tool: Tool) -> None:
    """At the ends of the range too: one infinite gradient would spoil a chain of tools."""
    noise = images(1, (16, 24))
    for content, image in [("noise", noise)] + [(v, torch.full_like(noise, v)) for v in (0.0, 0.5, 1.0)]:
        image.requires_grad_()
        loss = tool(image, (16, 24)).square().mean()
        if tool.runs_outside_torch:
            assert not loss.requires_grad, "co-training refuses such a tool after a trained one"
            continue
        loss.backward()
        assert image.grad is not None and image.grad.isfinite().all(), content
        for parameter in tool.module.parameters() if tool.module is not None else ():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), content
            parameter.grad = None


@every_tool
def test_a_network_is_in_evaluation_mode(tool: Tool) -> None:
    if tool.module is not None:
        assert not any(module.training for module in tool.module.modules())


@every_tool
def test_the_name_of_a_tool_can_be_written_in_a_plan(tool: Tool, kind: str) -> None:
    pattern = r"[a-z0-9]+\.[a-z0-9_]+" if kind in SHIPPED else r"[A-Za-z0-9][A-Za-z0-9_.\-]*"
    assert re.fullmatch(pattern, tool.name)


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_shipped_toolbox_covers_every_degradation(kind: str) -> None:
    toolbox = get_toolbox(kind)
    assert all(tool.degradations for tool in toolbox)
    covered = frozenset().union(*(tool.degradations for tool in toolbox))
    assert covered == set(DEGRADATIONS)


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_shipped_toolbox_loads_the_same_twice(kind: str) -> None:
    first, second = Toolbox.load(kind), Toolbox.load(kind)
    assert (first.names, first.signature, first.fingerprint) == (
        second.names,
        second.signature,
        second.fingerprint,
    )


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
            assert torch.equal(again[name](image, (66, 94)), toolbox[name](image, (66, 94))), name


@pytest.mark.parametrize("kind", SHIPPED)
def test_no_tool_names_a_degradation_that_does_not_exist(kind: str) -> None:
    for tool in get_toolbox(kind):
        assert tool.degradations <= set(DEGRADATIONS), tool.name


def test_a_result_of_another_size_is_refused(make_toolbox: Callable[[], Toolbox]) -> None:
    toolbox = make_toolbox().add("users.wrong", lambda image: image[..., 1:, :])
    with pytest.raises(ValueError, match=r"expected .*\(1, 3, 8, 8\), found \(1, 3, 7, 8\)"):
        toolbox["users.wrong"](torch.zeros(1, 3, 8, 8), (8, 8))
