"""Restormer, X-Restormer and PromptIR: what the published classes compute, for any size, also in tiles."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from spandrel_extra_arches.architectures.Restormer import Restormer as ReferenceRestormer
from torch import Tensor

from opera_env.execution.tiles import restore_in_tiles
from opera_env.tools import Tool, Toolbox
from opera_env.tools.global_context import GlobalContextNet
from opera_env.tools.nets import PromptIR, Restormer, XRestormer, build_net
from tests.published_nets import PUBLISHED, SMALL, make_small, random_state, read_figures, small_tools

every_net = pytest.mark.parametrize("name", SMALL)


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def small_tool(name: str) -> Tool:
    net = make_small(name)
    return Tool(name, net, scale=net.scale, multiple=net.multiple, halo=net.halo)


@pytest.mark.parametrize("name", PUBLISHED)
def test_official_state_dicts_fit_strictly(name: str) -> None:
    figures = read_figures()[name]
    with torch.device("meta"):
        state = build_net(*PUBLISHED[name]).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == figures["state_dict"]
    assert sum(value.numel() for value in state.values()) == figures["parameters"]


@pytest.mark.slow
@pytest.mark.usefixtures("returns_memory")
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_result_is_that_of_the_official_class(name: str) -> None:
    figures = read_figures()[name]
    net = build_net(*PUBLISHED[name])
    net.load_state_dict(random_state(figures["state_dict"]))
    check = figures["check"]
    image = np.random.default_rng(1234).random(check["input_shape"]).astype(np.float32)
    with torch.inference_mode():
        result = net.eval()(torch.from_numpy(image))
    assert list(result.shape) == check["output_shape"]
    assert result.mean().item() == pytest.approx(check["mean"], abs=1e-4)
    assert result.std().item() == pytest.approx(check["std"], abs=1e-4)
    found = result.flatten()[check["indices"]].numpy()
    np.testing.assert_allclose(found, check["values"], atol=1e-4, rtol=0)


def _reference(options: Mapping[str, Any]) -> ReferenceRestormer:
    norm = "BiasFree" if options.get("bias_free") else "WithBias"
    names = {key: value for key, value in options.items() if key != "bias_free"}
    return ReferenceRestormer(**names, LayerNorm_type=norm).eval()


@pytest.mark.parametrize("name", ["restormer_biasfree", "restormer_withbias"])
def test_restormer_equals_another_definition(name: str) -> None:
    net = make_small(name)
    reference = _reference(SMALL[name][1])
    reference.load_state_dict(net.state_dict())
    with torch.inference_mode():
        expected = reference(noise(24, 40))
        torch.testing.assert_close(net(noise(24, 40)), expected, atol=1e-5, rtol=0)
    assert (expected - noise(24, 40)).abs().max() > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("returns_memory")
@pytest.mark.parametrize("name", ["restormer_biasfree", "restormer_withbias"])
def test_restormer_of_full_size_equals_another_definition(name: str) -> None:
    kind, options = PUBLISHED[name]
    torch.manual_seed(0)
    reference = _reference(options)
    net = build_net(kind, options).eval()
    net.load_state_dict(reference.state_dict())
    with torch.inference_mode():
        expected = reference(noise(40, 64))
        torch.testing.assert_close(net(noise(40, 64)), expected, atol=1e-4, rtol=0)
        assert (expected - noise(40, 64)).abs().max() > 0.1


def test_attention_looks_beyond_its_window_by_the_overlap() -> None:
    """A plain computation of attention in windows: every pixel, every head, one after the other."""
    net = make_small("xrestormer")
    attention = net.encoder_level2[0].spatial_attn
    x = torch.randn(1, 16, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        query, key, value = attention.qkv(x)[0].chunk(3)
        expected = torch.zeros(8, 8, 12)
        window, reach = 4, 1  # an overlap of one half adds one pixel at each side
        row_table, column_table = attention.rel_pos_emb.rel_height, attention.rel_pos_emb.rel_width
        places = [(y, x, head) for y in range(8) for x in range(12) for head in range(2)]
        for y, x_, head in places:
            channels = slice(4 * head, 4 * head + 4)
            scaled = query[channels, y, x_] / 2
            top, left = y - y % window - reach, x_ - x_ % window - reach
            logits, values = [], []
            for i in range(top, top + window + 2 * reach):
                for j in range(left, left + window + 2 * reach):
                    inside = 0 <= i < 8 and 0 <= j < 12
                    k = key[channels, i, j] if inside else torch.zeros(4)
                    values.append(value[channels, i, j] if inside else torch.zeros(4))
                    # Rows of the table go by the distance from the query, shifted by its largest value.
                    row = row_table[(i - top) - (y % window) + window + 2 * reach - 1]
                    column = column_table[(j - left) - (x_ % window) + window + 2 * reach - 1]
                    logits.append(scaled @ (k + row + column))
            expected[channels, y, x_] = torch.stack(logits).softmax(0) @ torch.stack(values)
        torch.testing.assert_close(attention(x), attention.project_out(expected[None]), atol=1e-5, rtol=0)


@every_net
@torch.inference_mode()
def test_a_tool_takes_any_size(name: str) -> None:
    tool = small_tool(name)
    for size in ((1, 1), (13, 50), (tool.multiple, 2 * tool.multiple), (tool.multiple + 1, 9)):
        canvas = (size[0] * tool.scale, size[1] * tool.scale)
        result = tool(noise(*size), canvas)
        assert result.shape == (1, 3, *canvas)
        assert result.isfinite().all()


@every_net
def test_a_side_that_is_no_multiple_is_refused(name: str) -> None:
    net = make_small(name)
    with pytest.raises(RuntimeError):
        net(noise(net.multiple, net.multiple - 1))


@every_net
@pytest.mark.parametrize("given", [False, True])
def test_gradients_reach_every_parameter(name: str, given: bool) -> None:
    net = make_small(name)
    image = noise(net.multiple, 2 * net.multiple).requires_grad_()
    statistics = net.statistics(image.detach()) if given else None
    net(image, statistics).square().sum().backward()
    assert image.grad is not None and image.grad.isfinite().all() and image.grad.any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    unused = ("temperature", "linear_layer") if given else ()  # what they compute is given
    dead = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [key for key in dead if not any(part in key for part in unused)]


@every_net
def test_given_statistics_of_the_image_reproduce_the_result(name: str) -> None:
    net, image = make_small(name), noise(2 * make_small(name).multiple, 32)
    assert isinstance(net, GlobalContextNet)
    with torch.inference_mode():
        expected, statistics = net(image), net.statistics(image)
        assert torch.equal(net(image, statistics), expected)
        other = net.statistics(noise(*image.shape[-2:], seed=1) * 0.3)
        assert (net(image, other) - expected).abs().max() > 1e-4, "the statistics have an effect"
        assert torch.equal(net(image), expected), "given statistics are not kept"


@every_net
def test_the_halo_is_the_receptive_field_radius(name: str) -> None:
    """No pixel beyond the halo changes a result, and most of the halo is used."""
    net = make_small(name)
    length = 2 * net.halo + 4 * net.multiple
    length += -length % net.multiple
    radius = 0
    for axis, size in ((2, (length, net.multiple)), (3, (net.multiple, length))):
        statistics = tuple(value.detach() for value in net.statistics(noise(*size)))
        image = noise(*size).requires_grad_()
        result = net(image, statistics)
        start = length // 2 - length // 2 % net.multiple
        for place in (start, start + net.multiple - 1):  # the first and the last pixel of the grids
            pixels = result.narrow(axis, place * net.scale, net.scale)
            (gradient,) = torch.autograd.grad(pixels.sum(), image, retain_graph=True)
            places = gradient.abs().amax([dim for dim in range(4) if dim != axis]).nonzero()
            radius = max(radius, int((places - place).abs().max()))
    assert 0.5 * net.halo <= radius <= net.halo


@pytest.mark.parametrize(
    ("name", "size", "tile_pixels"),
    [
        ("restormer_biasfree", (380, 40), 356**2),
        ("restormer_withbias", (40, 380), 356**2),
        pytest.param("xrestormer_x4", (280, 16), 260**2, marks=pytest.mark.slow),
    ],
)
@torch.inference_mode()
def test_tiles_equal_the_whole_image(name: str, size: tuple[int, int], tile_pixels: int) -> None:
    """The statistics are exact here, because the image has fewer pixels than a tile may have."""
    tool, image = small_tool(name), noise(*size)
    canvas = (size[0] * tool.scale, size[1] * tool.scale)
    whole = tool(image, canvas)
    tiled = restore_in_tiles(tool, image, canvas, tile_pixels)
    assert (tiled - whole).abs().max() <= 1e-4
    tilewise = Tool("tilewise", lambda x: tool.restore(x), tool.scale, tool.multiple, halo=tool.halo)
    assert (restore_in_tiles(tilewise, image, canvas, tile_pixels) - whole).abs().max() > 1e-3


@torch.inference_mode()
def test_a_tile_is_not_larger_than_the_memory_allows() -> None:
    """In theory a pixel of X-Restormer is reached from a thousand pixels away."""
    with torch.device("meta"):
        halos = {net: net().halo for net in (Restormer, PromptIR, XRestormer)}
    assert halos == {Restormer: 326, PromptIR: 354, XRestormer: 1086}
    for halo, multiple in ((326, 8), (1086, 64)):
        shapes: list[torch.Size] = []

        def record(image: Tensor, shapes: list[torch.Size] = shapes) -> Tensor:
            shapes.append(image.shape)
            return image

        tool = Tool("far", record, multiple=multiple, halo=halo)
        image = noise(700, 500)
        result = restore_in_tiles(tool, image, (700, 500), 256 * 256)
        torch.testing.assert_close(result, image)
        assert len(shapes) > 10 and max(shape[-2] * shape[-1] for shape in shapes) <= 256 * 256


@every_net
def test_a_toolbox_saves_and_loads_it(name: str, tmp_path: Any) -> None:
    tool = next(tool for tool in small_tools() if tool.name == f"small.{name}")
    toolbox = Toolbox([tool])
    toolbox.save(tmp_path)
    again = Toolbox.load(tmp_path)
    assert again.fingerprint == toolbox.fingerprint
    loaded = again[tool.name]
    expected = (tool.scale, tool.multiple, tool.halo, "windows")
    assert (loaded.scale, loaded.multiple, loaded.halo, loaded.statistics_source) == expected
    with torch.inference_mode():
        assert torch.equal(loaded(noise(9, 20), (9, 20)), tool(noise(9, 20), (9, 20)))


def test_threads_do_not_share_statistics() -> None:
    net = make_small("restormer_withbias")
    images = [noise(24, 24, seed=seed) for seed in range(4)]
    with torch.inference_mode():
        expected = [net(image) for image in images]
        statistics = net.statistics(images[0])

    @torch.inference_mode()
    def restore(index: int) -> Tensor:
        return net(images[index % 4], statistics if index % 2 else None)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(restore, range(16)))
    assert all(torch.equal(results[i], expected[i % 4]) for i in range(0, 16, 2))
