"""The card of a toolbox: what is measured is what the tools do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor, nn

from opera_env.degradations import DEGRADATIONS, degrade
from opera_env.errors import SampleError, ToolboxError
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.model_card import (
    Gain,
    ToolCard,
    measure_latency_ms,
    measure_tools,
    plot_gains,
    read_card,
)
from opera_env.tools import Tool, Toolbox
from opera_env.tools.manifest import write_measurements
from opera_env.tools.nets import ConstantShift, build_net

SIDE = 64

# Of grey levels 60 to 200, so that 51 levels can be added or taken away.
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
    """Tools whose effect can be told by hand."""
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
    """Measured once for all tests, which only look."""
    specs = (
        ToolSpec("hand.brighten", "low_light", fixed_operator=_darken),
        ToolSpec("hand.halve", "haze"),  # of no one strength
        ToolSpec("hand.absent", "noise", fixed_operator=_darken),
    )
    return measure_tools(_box(), PHOTOGRAPHS, "skimage/two", side=SIDE, specs=specs)


def _crops() -> list[NDArray[np.uint8]]:
    return [
        image[(rows - SIDE) // 2 :, (columns - SIDE) // 2 :][:SIDE, :SIDE]
        for image in PHOTOGRAPHS
        for rows, columns in [image.shape[:2]]
    ]


def _error(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.square((first.astype(float) - second) / 255).mean())


def _card(psnr: float = 1.0) -> ToolCard:
    gains = {kind: Gain(psnr + row, 0.5, 0.25, -0.125, row) for row, kind in enumerate(DEGRADATIONS)}
    return ToolCard(2.5, Gain(psnr, 2.0, 0.5, -0.5, 3), gains, 41.5, 100, "some/photographs")


needs_lpips = pytest.mark.needs_weights("lpips")


@needs_lpips
def test_every_tool_has_a_card_that_says_of_what_it_is(cards: dict[str, ToolCard]) -> None:
    assert list(cards) == list(_box().names)
    for card in cards.values():
        assert list(card.gains) == list(DEGRADATIONS)
        assert (card.images, card.data) == (2, "skimage/two")
        assert card.ms > 0


@needs_lpips
def test_the_identity_changes_nothing(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.identity"]
    for gain in (card.own, *card.gains.values()):
        assert gain == Gain(0, 0, 0, 0, 0)
    assert card.clean == pytest.approx(80, abs=1e-3)


@needs_lpips
def test_a_negative_is_worse_than_any_degradation(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.invert"]
    for kind, gain in card.gains.items():
        assert gain.worse == 2 or kind == "low_light", kind  # the dark may be as far off as the glare
        assert gain.psnr < 0, kind
        assert gain.psnr_y < 0, kind
        assert gain.ssim_y < 0, kind
        assert gain.lpips > 0, kind
    assert card.clean < 20
    assert card.own == card.gains["haze"]


@needs_lpips
def test_what_brightens_gains_in_the_dark_and_harms_in_the_fog(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.brighten"]
    assert card.gains["low_light"].psnr > 3
    assert card.gains["haze"].psnr < 0
    assert card.gains["jpeg"].worse == 2
    assert card.clean == pytest.approx(-10 * np.log10(0.04), abs=1e-3), "51 levels are a fifth"


@needs_lpips
def test_gains_are_means_of_differences_to_the_untouched_images(cards: dict[str, ToolCard]) -> None:
    gains, worse = [], 0
    for seed, clean in enumerate(_crops()):
        dirty = degrade(np.ascontiguousarray(clean), ("haze",), default_rng(seed))[0]
        restored = np.round(dirty.astype(np.float32) / 2)
        gains.append(10 * np.log10(_error(dirty, clean) / _error(restored, clean)))
        worse += gains[-1] < 0
    assert cards["hand.halve"].gains["haze"].psnr == pytest.approx(float(np.mean(gains)), abs=0.02)
    assert cards["hand.halve"].gains["haze"].worse == worse


@needs_lpips
def test_misuse_is_of_the_mean_error_not_the_mean_of_decibels(cards: dict[str, ToolCard]) -> None:
    errors = [_error(np.round(clean.astype(np.float32) / 2), clean) for clean in _crops()]
    assert cards["hand.halve"].clean == pytest.approx(-10 * np.log10(np.mean(errors)), abs=0.01)
    assert abs(10 * np.log10(errors[0] / errors[1])) > 0.5, "or both means would be the same"


@needs_lpips
def test_a_tool_for_one_strength_is_judged_on_that(cards: dict[str, ToolCard]) -> None:
    """A shift by exactly what was taken away leaves nothing to mend."""
    own = cards["hand.brighten"].own
    assert own.psnr == pytest.approx(80 + 10 * np.log10(0.04), abs=0.01)
    assert own.worse == 0
    assert own.psnr < 80 - cards["hand.brighten"].gains["low_light"].psnr
    assert cards["hand.halve"].own == cards["hand.halve"].gains["haze"]
    assert "hand.absent" not in cards


@needs_lpips
def test_a_tool_that_enlarges_is_compared_with_enlarging(cards: dict[str, ToolCard]) -> None:
    card = cards["hand.enlarge"]
    assert card.own == card.gains["low_resolution"]
    assert abs(card.own.psnr) < 0.5, "bicubic against bicubic"
    assert all(gain.psnr > -0.5 for gain in card.gains.values()), "at equal size it hardly acts"
    assert 30 < card.clean < 80


@needs_lpips
def test_measuring_twice_gives_the_same_but_for_time(cards: dict[str, ToolCard]) -> None:
    again = measure_tools(_box().subset(["hand.invert"]), PHOTOGRAPHS, "skimage/two", side=SIDE)
    assert replace(again["hand.invert"], ms=0) == replace(cards["hand.invert"], ms=0)


@needs_lpips
def test_measuring_leaves_the_networks_as_they_are() -> None:
    box = _box().add("hand.conv", nn.Conv2d(3, 3, 3, padding=1), degradations=["noise"])
    before = box.fingerprint
    measure_tools(box.subset(["hand.conv"]), PHOTOGRAPHS[:1], "one", side=SIDE)
    box.invalidate_fingerprint()
    assert box.fingerprint == before
    module = box["hand.conv"].module
    assert module is not None
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())


@needs_lpips
@pytest.mark.parametrize("purpose", [[], ["moire"]])
def test_a_tool_for_nothing_known_is_told_before_anything_is_measured(purpose: list[str]) -> None:
    ran: list[bool] = []

    def watch(image: Tensor) -> Tensor:
        ran.append(True)
        return image

    box = (
        Toolbox()
        .add("mine.first", watch, degradations=["noise"])
        .add("mine.purpose", watch, degradations=purpose)
    )
    with pytest.raises(ToolboxError, match=r"mine\.purpose"):
        measure_tools(box, PHOTOGRAPHS[:1], "one", side=SIDE)
    assert not ran


@needs_lpips
def test_photographs_smaller_than_the_crop_are_an_error() -> None:
    with pytest.raises(SampleError, match="too small"):
        measure_tools(_box().subset(["hand.identity"]), [PHOTOGRAPHS[0][:40]], "small", side=SIDE)


def test_a_card_comes_back_from_json() -> None:
    card = _card()
    assert ToolCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_a_card_comes_back_from_a_toolbox_folder(tmp_path: Path) -> None:
    tool = Tool("a.gamma", build_net("gamma", {}), net=("gamma", {}))
    Toolbox([tool]).save(tmp_path / "box")
    with pytest.raises(ToolboxError, match="measure"):
        read_card(Toolbox.load(tmp_path / "box")["a.gamma"])
    write_measurements(tmp_path / "box", {"a.gamma": _card().to_json()})
    assert read_card(Toolbox.load(tmp_path / "box")["a.gamma"]) == _card()


def test_a_tool_nobody_measured_names_the_command() -> None:
    with pytest.raises(ToolboxError, match=r"hand\.identity.*`opera-env tools measure "):
        read_card(_box()["hand.identity"])


@pytest.mark.parametrize("fails", [False, True])
def test_time_is_taken_on_one_thread(fails: bool) -> None:
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
    assert set(shapes) == {(1, 3, 8, 8)}, "becomes one of 32 x 32"


def test_time_is_the_least_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run that the machine interrupts does not count."""
    now = iter([0.0, 0.002, 1.0, 9.0, 10.0, 10.004])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    assert measure_latency_ms(Tool("a", nn.Identity()), 16, runs=3) == pytest.approx(2)


@pytest.mark.parametrize(("name", "kind"), [("new/gains.PNG", "PNG"), ("gains", "PNG"), ("g.jpg", "JPEG")])
def test_a_pictures_name_says_of_which_kind_it_is(tmp_path: Path, name: str, kind: str) -> None:
    plot_gains({"a.tool": _card()}, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
    assert [path for path in (tmp_path / name).parent.iterdir() if path.is_file()] == [tmp_path / name]


def test_a_picture_of_the_gains_grows_with_the_tools(tmp_path: Path) -> None:
    pictures = []
    for count in (2, 18):
        plot_gains({f"family.tool_{n}": _card(n) for n in range(count)}, tmp_path / "gains.png")
        pictures.append(Image.open(tmp_path / "gains.png").convert("RGB"))
    for picture in pictures:
        assert 500 < picture.height < 2000
        colours = np.unique(np.asarray(picture)[::2, ::2].reshape(-1, 3), axis=0)
        assert len(colours) > 50, "not an empty page"
    assert 3 * pictures[0].width < pictures[1].width < 4000
    assert list(tmp_path.iterdir()) == [tmp_path / "gains.png"]


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "gains.xyz"
    file.write_text("mine")
    with pytest.raises(ValueError, match="xyz"):
        plot_gains({"a.tool": _card()}, file)
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]
