"""Tiles: a large image restored in tiles equals the image restored as a whole, without seams."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.execution import Executor
from opera_env.execution.tiles import restore_in_tiles, sample_windows, split_axis
from opera_env.execution.tool_runner import MAX_UNTILED_PIXELS
from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import UNet
from opera_env.types import Sample

CPU = torch.device("cpu")


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def with_random_weights(net: UNet) -> UNet:
    """Sets random weights: a new network is the identity, because its last layer is zero."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.15)
    return net.eval()


def unet(**options: object) -> Tool:
    net = with_random_weights(UNet((4, 6, 8), **options))  # pyright: ignore[reportArgumentType]
    return Tool("unet", net, scale=net.scale, multiple=net.multiple, halo=net.halo)


@given(
    length=st.integers(1, 3000),
    side=st.integers(1, 700),
    steps=st.integers(0, 12),
    multiple=st.sampled_from([1, 4, 7, 8]),
)
def test_cores_cover_the_axis_once(length: int, side: int, steps: int, multiple: int) -> None:
    margin = steps * multiple
    tiles = split_axis(length, side, margin, multiple)
    assert tiles[0].core_start == 0
    assert tiles[-1].core_end == length
    assert all(
        tile.core_end == following.core_start for tile, following in zip(tiles, tiles[1:], strict=False)
    )
    for tile in tiles:
        assert tile.start % multiple == 0
        assert tile.start == max(0, tile.core_start - margin) or len(tiles) == 1
        assert tile.end == min(length, tile.core_end + margin) or len(tiles) == 1
        assert len(tiles) == 1 or tile.end - tile.start <= max(side, 4 * margin, 3 * multiple) + multiple


@pytest.mark.parametrize("size", [(300, 260), (257, 301), (400, 33)], ids=str)
@pytest.mark.parametrize("scale", [1, 4])
@torch.inference_mode()
def test_tiles_equal_the_whole_image_if_the_halo_suffices(size: tuple[int, int], scale: int) -> None:
    tool = unet(unshuffle=1, scale=4) if scale == 4 else unet()
    image = noise(*size)
    whole = tool(image, size)
    tiled = restore_in_tiles(tool, image, size, 200 * 200)
    assert (whole - image).abs().max() > 0.05, "the network does something"
    assert (tiled - whole).abs().max() <= 1e-4


@torch.inference_mode()
def test_upscaling_in_tiles_equals_upscaling_the_whole_image() -> None:
    tool, image = unet(unshuffle=1, scale=4), noise(150, 190)
    whole = tool(image, (600, 760))
    tiled = restore_in_tiles(tool, image, (600, 760), 100 * 100)
    assert tiled.shape == (1, 3, 600, 760)
    assert (tiled - whole).abs().max() <= 1e-4


@torch.inference_mode()
def test_too_small_a_halo_changes_the_result() -> None:
    """Control of the test above: with half the halo the tiles differ from the whole image."""
    net = with_random_weights(UNet((4, 6, 8)))
    short = Tool("short", net, multiple=net.multiple, halo=8)
    image = noise(300, 260)
    difference = restore_in_tiles(short, image, (300, 260), 150 * 150) - short(image, (300, 260))
    assert difference.abs().max() > 1e-4


@torch.inference_mode()
def test_tiles_use_the_statistics_of_the_whole_image() -> None:
    """Every tile receives the same statistics: a tile of sky alone would look like a hazy photograph."""
    tool, size = unet(global_context=True), (300, 400)
    ramp = torch.linspace(0, 1, 400).expand(1, 3, *size) * 0.9 + 0.1 * noise(*size)
    whole = tool(ramp, size)
    exact = restore_in_tiles(tool, ramp, size, 347 * 347)
    assert (exact - whole).abs().max() <= 1e-4, "with enough pixels the statistics are exact"
    tilewise = Tool("tilewise", lambda image: tool.restore(image), multiple=8, halo=tool.halo)
    error, error_tilewise = (
        (restore_in_tiles(which, ramp, size, 200 * 200) - whole).abs().mean() for which in (tool, tilewise)
    )
    assert error_tilewise > 1e-3, "statistics of each tile alone give another result"
    assert error < error_tilewise / 3


@torch.inference_mode()
def test_statistics_keep_the_noise_of_the_photograph() -> None:
    """A downscaled copy has less noise, so its statistics are those of a cleaner photograph."""
    tool, size = Toolbox.load("lite")["nafnet.denoise_25"], (512, 768)
    ramp = torch.linspace(0.2, 0.8, 768).expand(1, 3, *size)
    noisy = (ramp + 0.3 * (noise(*size) - 0.5)).clamp(0, 1)
    whole = tool(noisy, size)
    tiled = restore_in_tiles(tool, noisy, size, 320 * 320)
    assert (tiled - whole).abs().mean() < 0.3 / 255 < (whole - noisy).abs().mean() / 10


@torch.inference_mode()
def test_brighteners_use_statistics_of_all_pixels() -> None:
    tool, size = Toolbox.load("lite-cotrained")["brighten.gamma_correction"], (300, 400)
    dark = 0.4 * noise(*size)
    tiled = restore_in_tiles(tool, dark, size, 120 * 120)
    assert (tiled - tool(dark, size)).abs().max() < 1e-5


@given(height=st.integers(1, 2500), width=st.integers(1, 2500), max_pixels=st.integers(1, 70_000))
def test_sampled_windows_are_distinct_parts_of_the_image(height: int, width: int, max_pixels: int) -> None:
    """No pixel of an image with numbered pixels occurs twice, and the number of pixels is bounded."""
    numbered = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    chosen = sample_windows(numbered, max_pixels).flatten()
    assert 0 < len(chosen) <= max_pixels
    assert len(chosen.unique()) == len(chosen)
    assert len(chosen) >= 0.2 * min(max_pixels, height * width)


@torch.inference_mode()
def test_tiles_of_a_tool_without_a_declared_halo_are_blended() -> None:
    """Where tiles disagree, the result changes gradually from one to the other."""
    tool = Tool("mean", lambda image: image - image.mean((2, 3), keepdim=True))
    ramp = torch.linspace(0, 1, 600).expand(1, 3, 40, 600).contiguous()
    tiled = restore_in_tiles(tool, ramp, (40, 600), 200 * 200)
    steps = (tiled - ramp).diff(dim=-1).abs()
    assert tiled.isfinite().all()
    assert (tiled - ramp).amax() - (tiled - ramp).amin() > 0.3, "tiles disagree"
    assert steps.max() < 0.02


@pytest.mark.parametrize("halo", [0, 3, None])
@torch.inference_mode()
def test_the_input_image_is_not_changed(halo: int | None) -> None:
    image = noise(120, 260)
    before = image.clone()
    tool = Tool("halve", lambda x: x.mul_(0.5), halo=halo)
    tiled = restore_in_tiles(tool, image, (120, 260), 90 * 90)
    assert torch.equal(image, before)
    torch.testing.assert_close(tiled, before * 0.5, atol=1e-6, rtol=0)


def test_the_callback_reports_progress() -> None:
    calls: list[tuple[int, int]] = []
    tool = Tool("same", lambda image: image, halo=0)
    restore_in_tiles(
        tool, noise(100, 200), (100, 200), 50 * 50, lambda done, total: calls.append((done, total))
    )
    total = calls[0][1]
    assert total > 4
    assert calls == [(done, total) for done in range(total + 1)]


def _large(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample(seed=1, size=(MAX_UNTILED_PIXELS // 200, 256))


def test_the_executor_tiles_large_images(make_sample: Callable[..., Sample], recorder: type) -> None:
    recorded = recorder(lambda image: F.avg_pool2d(image, 3, 1, 1))
    toolbox = Toolbox([Tool("blur", recorded, halo=1)])
    sample = _large(make_sample)
    whole = next(iter(Executor(toolbox).run([sample], [("blur", "blur")]))).image
    assert {shape[-2:] for shape in recorded.batches} == {(128, 128), tuple(sample.lq.shape[-2:])}
    recorded.batches.clear()
    tiled = next(iter(Executor(toolbox, max_tile_bytes=1).run([sample], [("blur", "blur")]))).image
    sizes = {shape[-2] * shape[-1] for shape in recorded.batches if shape[-2:] != (128, 128)}
    assert max(sizes) <= MAX_UNTILED_PIXELS * 1.1
    assert len(recorded.batches) > 3
    torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=0)


def test_the_executor_reports_progress_of_every_tool(make_sample: Callable[..., Sample]) -> None:
    toolbox = Toolbox([Tool("a", lambda image: image, halo=0), Tool("b", lambda image: image, halo=0)])
    calls: list[tuple[str, int, int]] = []
    executor = Executor(toolbox, on_tile=lambda name, done, total: calls.append((name, done, total)))
    list(executor.run([make_sample()], [("a", "b")]))
    assert calls == [("a", 0, 1), ("a", 1, 1), ("b", 0, 1), ("b", 1, 1)]
    calls.clear()
    executor.tool_runner.max_tile_bytes = 1
    list(executor.run([_large(make_sample)], [("b",)]))
    assert calls[0][:2] == ("b", 0)
    assert calls[-1][1] == calls[-1][2] > 1
