"""Measurement of model cards, with tools whose effect is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from skimage import data
from torch import Tensor, nn

from opera_env.degradations import DEGRADATIONS, degrade
from opera_env.errors import SampleError, ToolboxError
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.measurement import measure_latency_ms, measure_tools
from opera_env.tool_training.model_card import Gain, ToolCard
from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import ConstantShift

SIDE = 64

# Grey levels from 60 to 200, so that 51 levels can be added or subtracted.
PHOTOGRAPHS: list[NDArray[np.uint8]] = [
    (60 + picture.astype(int) * 140 // 255).astype(np.uint8)
    for picture in (data.astronaut()[:200, 120:300], data.coffee()[100:300, 150:330])
]


class _Invert(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return 1 - image


class _Halve(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image / 2


def _box() -> Toolbox:
    """Tools whose effect can be computed by hand."""
    enlarge = nn.Upsample(scale_factor=4, mode="bicubic")
    return (
        Toolbox()
        .add("hand.identity", nn.Identity(), degradations=["noise", "jpeg"])
        .add("hand.invert", _Invert(), degradations=["haze"])
        .add("hand.halve", _Halve(), degradations=["haze"])
        .add("hand.brighten", ConstantShift(51), degradations=["low_light"])
        .add("hand.enlarge", enlarge, scale=4, degradations=["low_resolution"])
    )


def _darken(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    return image - np.uint8(51)


@pytest.fixture(scope="module")
def cards() -> dict[str, ToolCard]:
    """Cards for all tests of this module, measured once."""
    specs = {
        "hand.brighten": ToolSpec("hand.brighten", "low_light", training_data=_darken),
        "hand.halve": ToolSpec("hand.halve", "haze"),  # trained on the benchmark's degradation
        "hand.absent": ToolSpec("hand.absent", "noise", training_data=_darken),
    }
    return measure_tools(_box(), PHOTOGRAPHS, "skimage/two", side=SIDE, specs=specs)


def _crops() -> list[NDArray[np.uint8]]:
    return [
        image[(rows - SIDE) // 2 :, (columns - SIDE) // 2 :][:SIDE, :SIDE]
        for image in PHOTOGRAPHS
        for rows, columns in [image.shape[:2]]
    ]


def _error(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.square((first.astype(float) - second) / 255).mean())


needs_lpips = pytest.mark.needs_weights("lpips")


@needs_lpips
def test_every_tool_has_a_card_with_the_name_of_the_data(cards: dict[str, ToolCard]) -> None:
    assert list(cards) == list(_box().names)
    for card in cards.values():
        assert list(card.gains) == list(DEGRADATIONS)
        assert (card.images, card.data) == (2, "skimage/two")
        assert card.ms > 0


@needs_lpips
def test_the_identity_has_no_gain(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.identity"]
    for gain in (card.own, *card.gains.values()):
        assert gain == Gain(0, 0, 0, 0, 0)
    assert card.clean == pytest.approx(80, abs=1e-3)


@needs_lpips
def test_inverting_images_harms_every_degradation(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.invert"]
    for kind, gain in card.gains.items():
        assert gain.worse == 2 or kind == "low_light", (
            kind
        )  # a dark image and its inverse may be equally wrong
        assert gain.psnr < 0, kind
        assert gain.psnr_y < 0, kind
        assert gain.ssim_y < 0, kind
        assert gain.lpips > 0, kind
    assert card.clean < 20
    assert card.own == card.gains["haze"]


@needs_lpips
def test_brightening_gains_on_low_light_and_harms_haze(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.brighten"]
    assert card.gains["low_light"].psnr > 3
    assert card.gains["haze"].psnr < 0
    assert card.gains["jpeg"].worse == 2
    assert card.clean == pytest.approx(-10 * np.log10(0.04), abs=1e-3), "51 levels are 0.2"


@needs_lpips
def test_gains_are_mean_differences_from_the_degraded_images(cards: dict[str, ToolCard]) -> None:
    gains, worse = [], 0
    for seed, clean in enumerate(_crops()):
        degraded = degrade(np.ascontiguousarray(clean), ("haze",), default_rng(seed))[0]
        restored = np.round(degraded.astype(np.float32) / 2)
        gains.append(10 * np.log10(_error(degraded, clean) / _error(restored, clean)))
        worse += gains[-1] < 0
    assert cards["hand.halve"].gains["haze"].psnr == pytest.approx(float(np.mean(gains)), abs=0.02)
    assert cards["hand.halve"].gains["haze"].worse == worse


@needs_lpips
def test_clean_is_the_psnr_of_the_mean_error(cards: dict[str, ToolCard]) -> None:
    errors = [_error(np.round(clean.astype(np.float32) / 2), clean) for clean in _crops()]
    assert cards["hand.halve"].clean == pytest.approx(-10 * np.log10(np.mean(errors)), abs=0.01)
    assert abs(10 * np.log10(errors[0] / errors[1])) > 0.5, "otherwise both means would be equal"


@needs_lpips
def test_the_own_gain_uses_the_training_data_of_the_spec(cards: dict[str, ToolCard]) -> None:
    """Adding exactly what the operator subtracts restores the image."""
    own_gain = cards["hand.brighten"].own
    assert own_gain.psnr == pytest.approx(80 + 10 * np.log10(0.04), abs=0.01)
    assert own_gain.worse == 0
    assert own_gain.psnr < 80 - cards["hand.brighten"].gains["low_light"].psnr
    assert cards["hand.halve"].own == cards["hand.halve"].gains["haze"]
    assert "hand.absent" not in cards


@needs_lpips
def test_a_tool_that_enlarges_is_compared_with_bicubic_enlargement(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.enlarge"]
    assert card.own == card.gains["low_resolution"]
    assert abs(card.own.psnr) < 0.5, "both are bicubic"
    assert all(gain.psnr > -0.5 for gain in card.gains.values()), (
        "at equal size the tool has hardly any effect"
    )
    assert 30 < card.clean < 80


@needs_lpips
def test_measuring_again_gives_the_same_card_except_for_the_time(cards: dict[str, ToolCard]) -> None:
    again = measure_tools(_box().subset(["hand.invert"]), PHOTOGRAPHS, "skimage/two", side=SIDE)
    assert replace(again["hand.invert"], ms=0) == replace(cards["hand.invert"], ms=0)


@needs_lpips
def test_measuring_does_not_change_the_networks() -> None:
    box = _box().add("hand.conv", nn.Conv2d(3, 3, 3, padding=1), degradations=["noise"])
    before = box.fingerprint
    measure_tools(box.subset(["hand.conv"]), PHOTOGRAPHS[:1], "one", side=SIDE)
    box.invalidate_fingerprint()
    assert box.fingerprint == before
    module = box["hand.conv"].module
    assert module is not None
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())


@needs_lpips
@pytest.mark.parametrize("degradations", [[], ["moire"]])
def test_a_tool_without_a_known_degradation_is_refused_before_measuring(degradations: list[str]) -> None:
    calls: list[bool] = []

    def record_call(image: Tensor) -> Tensor:
        calls.append(True)
        return image

    box = (
        Toolbox()
        .add("mine.first", record_call, degradations=["noise"])
        .add("mine.second", record_call, degradations=degradations)
    )
    with pytest.raises(ToolboxError, match=r"mine\.second"):
        measure_tools(box, PHOTOGRAPHS[:1], "one", side=SIDE)
    assert not calls


@needs_lpips
def test_photographs_smaller_than_the_crop_are_refused() -> None:
    with pytest.raises(SampleError, match="too small"):
        measure_tools(_box().subset(["hand.identity"]), [PHOTOGRAPHS[0][:40]], "small", side=SIDE)


@pytest.mark.parametrize("fails", [False, True])
def test_latency_is_measured_on_one_thread(fails: bool) -> None:
    threads: list[int] = []
    shapes: list[Sequence[int]] = []

    def restore(image: Tensor) -> Tensor:
        threads.append(torch.get_num_threads())
        shapes.append(image.shape)
        if fails:
            raise RuntimeError("no")
        return image.repeat_interleave(4, 2).repeat_interleave(4, 3)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if fails:
            with pytest.raises(RuntimeError, match="no"):
                measure_latency_ms(Tool("a", restore, scale=4), 32, runs=3)
        else:
            assert measure_latency_ms(Tool("a", restore, scale=4), 32, runs=3) > 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}
    assert set(shapes) == {(1, 3, 8, 8)}, "the result has 32 x 32 pixels"


def test_latency_is_the_shortest_time_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes long because of other load does not count."""
    now = iter([0.0, 0.002, 1.0, 9.0, 10.0, 10.004])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    assert measure_latency_ms(Tool("a", nn.Identity()), 16, runs=3) == pytest.approx(2)
