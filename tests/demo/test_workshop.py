"""The work behind the page: plans, images after each tool, variants, sessions, games and contests."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

from opera_env.data.photo import Photo
from opera_env.data.read import read_photo
from opera_env.demo.contest import degrade_photograph, hold_contest
from opera_env.demo.game import Game
from opera_env.demo.reference import compare_with_reference
from opera_env.demo.sessions import Sessions
from opera_env.demo.workshop import Workshop, with_variant
from opera_env.errors import BusyError, ImageFileError, SettingError, UnknownToolError
from opera_env.restoration import Restorer, RestorerConfig
from opera_env.types import Sample

PLAN = ("unet.denoise_15", "brighten.constant_shift")


def test_a_plan_has_the_image_after_each_tool(workshop: Workshop, photograph: Path) -> None:
    photo = workshop.open(photograph)
    restored = workshop.restore(photo, "planner", "lite", PLAN)
    assert restored.plan == PLAN and len(restored.images) == len(restored.scores) == 3
    assert torch.equal(restored.images[0], photo.tensor())
    for count in (1, 2):
        restorer = Restorer(workshop.toolbox("lite"), RestorerConfig(plan=PLAN[:count]))
        expected = restorer.restore(photo.tensor()).image
        torch.testing.assert_close(restored.images[count], expected.clamp(0, 1))
    assert restored.scores[1] > restored.scores[0] + 0.5


def test_the_agent_plans_and_names_its_second_choices(workshop: Workshop, photograph: Path) -> None:
    restored = workshop.restore(workshop.open(photograph), "planner", "lite")
    probabilities = restored.decision.probabilities or {}
    assert max(probabilities, key=lambda name: probabilities[name]) == "noise"
    assert restored.plan and restored.reason and restored.planning_seconds > 0
    tried = {(): 5.0, ("a",): 6.0, ("b",): 7.0, ("a", "b"): 7.05, ("c",): 1.0}
    assert workshop._best_others(tried, ("b",), 2) == [("a", "b"), ("a",)]
    other = torch.zeros(3, 128, 128)
    chosen = with_variant(replace(restored, variants=((("unet.dehaze",), 3.0, other),)), 0)
    assert chosen.plan == ("unet.dehaze",) and chosen.images[-1] is other and chosen.scores[-1] == 3.0
    assert with_variant(chosen, 0).plan == restored.plan


def test_the_download_keeps_format_and_metadata(workshop: Workshop, noisy: Sample, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    pixels = (noisy.lq * 65535).round().permute(1, 2, 0).numpy().astype(np.uint16)
    photo = replace(Photo(pixels), exif=exif)
    restored = workshop.restore(photo, "planner", "lite", PLAN)
    written = read_photo(restored.write(tmp_path, "holiday.jpeg"))
    assert (written.format, written.bits) == ("PNG", 16)
    assert written.exif is not None and written.exif[0x010E] == "a description"


def test_what_cannot_be_restored_is_named(workshop: Workshop, photograph: Path, tmp_path: Path) -> None:
    Image.new("RGB", (400, 300)).save(tmp_path / "large.png")
    with pytest.raises(ImageFileError, match=r"at most 0.1 megapixels, found 0.1"):
        workshop.open(tmp_path / "large.png")
    photo = workshop.open(photograph)
    with pytest.raises(UnknownToolError, match="denoise"):
        workshop.restore(photo, "planner", "lite", ["unet.denois"])
    with pytest.raises(SettingError, match="at most 3"):
        workshop.restore(photo, "planner", "lite", ["unet.denoise"] * 4)


def test_a_reference_gives_metrics(workshop: Workshop, noisy: Sample, photograph: Path) -> None:
    assert noisy.reference is not None
    restored = workshop.restore(workshop.open(photograph), "planner", "lite", ("unet.denoise_25",))
    pixels = (noisy.reference * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    table = compare_with_reference(restored, Photo(pixels))
    _, _, before, after, _ = next(line for line in table.splitlines() if "psnr_y" in line).split("|")
    assert float(after) > float(before) + 2
    with pytest.raises(SettingError, match="128 x 128"):
        compare_with_reference(restored, Photo(pixels[:64]))


def test_a_chat_agent_inspects_restores_applies_and_undoes(workshop: Workshop, photograph: Path) -> None:
    sessions = Sessions(workshop)
    seen = sessions.inspect(photograph)
    assert seen["probabilities"]["noise"] > 0.5 and seen["plan"] == [] and "unet.denoise" in seen["tools"]
    answer, first = sessions.restore(photograph)
    name = answer["photograph"]
    assert answer["plan"] and answer["score_after"] > answer["score_before"]
    applied, second = sessions.apply_plan(name, ["unet.dehaze"])
    assert applied["plan"] == ["unet.dehaze"] and applied["score_before"] == answer["score_before"]
    undone, again = sessions.undo(name)
    assert undone["plan"] == answer["plan"] and again == first and second != first
    for _ in range(2):
        undone, untouched = sessions.undo(name)
    assert undone["plan"] == [] and np.array_equal(untouched, Image.open(photograph))
    with pytest.raises(SettingError, match="inspect or restore has returned"):
        sessions.undo("nothing")


def test_a_chosen_variant_has_no_reason_of_another_plan(workshop: Workshop, photograph: Path) -> None:
    restored = workshop.restore(workshop.open(photograph), "planner", "lite")
    said = replace(
        restored,
        variants=((("unet.dehaze",), 3.0, restored.images[0]),),
        reason="it is best",
        decision=replace(restored.decision, reasoning="Grainy."),
    )
    chosen = with_variant(said, 0)
    assert chosen.plan == said.variants[0][0]
    assert chosen.reason is None and chosen.decision.reasoning is None
    assert chosen.decision.probabilities == said.decision.probabilities


def test_requests_wait_for_their_turn_and_not_too_many() -> None:
    workshop = Workshop(max_waiting=1)
    began: list[int] = []

    def wait(number: int) -> None:
        with workshop.turn():
            began.append(number)

    with workshop.turn():
        thread = Thread(target=wait, args=(1,))
        thread.start()
        while workshop._turns._value:  # pyright: ignore[reportAttributeAccessIssue]
            time.sleep(0.01)
        with pytest.raises(BusyError, match="try again"), workshop.turn():
            pytest.fail("one is being restored, and one waits")
        assert began == []
        workshop.toolbox("lite")  # the same thread does not wait for itself
    thread.join(10)
    assert began == [1]
    wait(2)


def test_images_of_a_game_depend_on_the_seed(workshop: Workshop) -> None:
    game = Game(workshop.toolbox("lite"), 3)
    specs = [game.start(seed).sample.spec for seed in range(6)]
    assert len({spec.recipe for spec in specs}) > 2 and len({spec.index for spec in specs}) > 2
    assert game.start(2).sample.spec == specs[2]


def test_a_game_is_played_undone_and_compared(workshop: Workshop) -> None:
    game = Game(workshop.toolbox("lite"), max_tools=2)
    start = game.start(5)
    assert game.start(5).scores == start.scores
    first = game.play(start, "brighten.constant_shift")
    second = game.play(first, "unet.denoise")
    assert len(second.images) == len(second.scores) == 3
    with pytest.raises(SettingError, match="at most 2"):
        game.play(second, "unet.denoise")
    assert game.undo(second).scores == first.scores and game.undo(start) is start
    ending = game.finish(second)
    assert ending.regret > 0 and ending.best_plan != second.plan
    best = start
    for tool in ending.best_plan:
        best = game.play(best, tool)
    assert best.scores[-1] - second.scores[-1] == pytest.approx(ending.regret, abs=1e-3)
    assert game.finish(best).regret == pytest.approx(0.0, abs=1e-6)


def test_two_agents_compete_on_one_degraded_photograph(workshop: Workshop, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).resize((300, 200))
    smooth.save(tmp_path / "clean.png")
    sample = degrade_photograph(tmp_path / "clean.png", ["noise"], seed=1, side=128)
    again = degrade_photograph(tmp_path / "clean.png", ["noise"], seed=1, side=128)
    assert torch.equal(sample.lq, again.lq) and sample.degradations == {"noise"}
    before, entries = hold_contest(sample, ["matched", "untouched"], workshop.toolbox("lite"), 3)
    matched, untouched = entries
    assert [len(matched.plan), len(untouched.plan)] == [1, 0]
    assert (
        untouched.r_q == before.r_q < matched.r_q and matched.metrics["psnr_y"] > before.metrics["psnr_y"]
    )
    with pytest.raises(SettingError, match="each once"):
        degrade_photograph(tmp_path / "clean.png", ["noise", "noise"], seed=1)
