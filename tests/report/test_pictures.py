"""The images of a report."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import pytest
import torch
from PIL import Image

from opera_env.evaluation.results import Result
from opera_env.report.pictures import MAX_SIDE, draw_card, draw_cards, worst_regrets
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample


@pytest.fixture
def scorer(toolbox: Toolbox) -> PlanScorer:
    return PlanScorer(toolbox, "classic")


def decode(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def sample_of(result: Result, height: int, width: int) -> Sample:
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    return Sample(image, image, frozenset({"rain"}), (height, width), result.spec)


def test_the_worst_regrets_come_first(result: Result) -> None:
    mine = [replace(result, r_q=value) for value in (6.0, 5.0, 7.0)]
    other = [replace(result, r_q=value) for value in (6.5, 7.0, 6.0)]
    assert worst_regrets({"mine": mine, "other": other}, "mine", 2) == [(1, 2.0), (0, 0.5)]


def test_a_card_has_input_results_and_reference(result: Result, scorer: PlanScorer) -> None:
    results = {
        "mine": replace(result, plan=("tiny.blur",)),
        "wordy": replace(result, plan=(), answer={"reasoning": "It is clean."}),
        "elsewhere": replace(result, toolbox="other"),
    }
    card = draw_card(results, sample_of(result, 48, 64), {"tiny": scorer}, "wordy", 0.25)
    assert [picture.label for picture in card.pictures] == ["input", "mine", "wordy", "reference"]
    assert card.pictures[card.focus].answer == "It is clean."
    assert (card.title, card.side, card.regret) == ("a.png: rain + haze", 64, 0.25)
    assert {decode(picture.image).size for picture in card.pictures} == {(64, 48)}
    assert not any(picture.crop for picture in card.pictures), "small images need no enlarged crop"


def test_large_images_are_reduced_and_have_a_crop_where_results_differ(
    result: Result, scorer: PlanScorer
) -> None:
    sample = sample_of(result, 300, 2 * MAX_SIDE)
    image = sample.lq.clone()
    image[:, :, :MAX_SIDE] = 0.5  # blurring changes the right half only
    sample = replace(sample, lq=image, reference=image)
    mine = replace(result, plan=("tiny.blur",))
    card = draw_card({"mine": mine}, sample, {"tiny": scorer}, "mine", 0.0)
    assert decode(card.pictures[0].image).size == (MAX_SIDE, 150)
    crop = torch.tensor(
        list(decode(card.pictures[0].crop).convert("L").get_flattened_data()), dtype=torch.float32
    )
    assert crop.std() > 20


def test_cards_are_drawn_for_the_chosen_samples(result: Result, scorer: PlanScorer) -> None:
    rows = [
        replace(result, plan=(), r_q=value, spec=replace(result.spec, index=index))
        for index, value in enumerate((6.0, 5.0))
    ]
    best = [replace(row, agent="best", r_q=7.0) for row in rows]
    done: list[tuple[int, int]] = []
    cards = draw_cards(
        {"mine": rows, "best": best},
        "mine",
        1,
        lambda row: sample_of(row, 48, 48),
        {"tiny": scorer},
        lambda *numbers: done.append(numbers),
    )
    assert [card.regret for card in cards] == [2.0]
    assert done == [(1, 1)]
