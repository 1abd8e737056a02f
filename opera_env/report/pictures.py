"""The images of a report: input, results of all entries and reference of chosen samples."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from opera_env.data.images import resize, to_pil
from opera_env.evaluation.results import Result
from opera_env.scoring import PlanScorer
from opera_env.types import Plan, Sample

MAX_SIDE = 640
"""Longest side of an image in the page, in pixels; larger ones are reduced."""

_WEBP_QUALITY = 88
_CROP_FRACTION = 1 / 3
"""Side of the enlarged crop, of the side of the image."""

_MIN_SIDE = 96
"""Images below twice this side have no enlarged crop: they are enlarged anyway."""


@dataclass(frozen=True)
class Picture:
    """One image of a card.

    Attributes:
        label: What it is: the input, an entry, or the reference.
        image: The image as a data address.
        crop: The enlarged crop as a data address; empty if the image is small.
        plan: The plan; None for the input and the reference.
        r_q: R_q of the image; None for the reference.
        answer: The reasoning of a model that answers in words; empty for others.
    """

    label: str
    image: str
    crop: str = ""
    plan: Plan | None = None
    r_q: float | None = None
    answer: str = ""


@dataclass(frozen=True)
class PictureCard:
    """All images of one sample.

    Attributes:
        title: Name of the photograph and the degradations.
        regret: R_q of the best entry less that of the entry in focus.
        pictures: The images; the first is the input.
        focus: Index of the image of the entry in focus.
        side: Width of the images in pixels.
    """

    title: str
    regret: float
    pictures: tuple[Picture, ...]
    focus: int
    side: int


def worst_regrets(
    entries: Mapping[str, Sequence[Result]], focus: str, count: int
) -> list[tuple[int, float]]:
    """Returns the samples on which an entry is farthest below the best entry, the worst first.

    Args:
        entries: The results of each entry by its label, in the same order of samples.
        focus: Label of the entry in focus.
        count: Number of samples.

    Returns:
        Index of the sample and regret.
    """
    best = np.max([[result.r_q for result in results] for results in entries.values()], axis=0)
    regrets = best - np.array([result.r_q for result in entries[focus]])
    order = np.argsort(-regrets, kind="stable")[:count]
    return [(int(index), float(regrets[index])) for index in order]


def draw_card(
    results: Mapping[str, Result],
    sample: Sample,
    scorers: Mapping[str, PlanScorer],
    focus: str,
    regret: float,
) -> PictureCard:
    """Runs the plans of all entries on a sample again and returns their images.

    Args:
        results: The result of each entry by its label.
        sample: The sample.
        scorers: Runs plans, by name of the toolbox. Entries of other toolboxes are left out.
        focus: Label of the entry in focus.
        regret: Its regret on the sample.
    """
    shown = {label: result for label, result in results.items() if result.toolbox in scorers}
    images = {
        label: scorers[result.toolbox].restore([sample], [result.plan])[0].image()
        for label, result in shown.items()
    }
    untouched = resize(sample.lq[None], sample.canvas)[0]
    box = _crop_box([untouched, *images.values()])
    first = next(iter(results.values()))

    def picture(label: str, image: Tensor, **details: object) -> Picture:
        crop = "" if box is None else _encode(image[:, box[0] : box[1], box[2] : box[3]])
        return Picture(label, _encode(image), crop, **details)  # pyright: ignore[reportArgumentType]

    pictures = [picture("input", untouched, r_q=first.input_r_q)]
    for label, result in shown.items():
        answer = str((result.answer or {}).get("reasoning") or "")
        pictures.append(picture(label, images[label], plan=result.plan, r_q=result.r_q, answer=answer))
    if sample.reference is not None:
        pictures.append(picture("reference", sample.reference))
    title = f"{first.spec.image or first.spec.index}: {first.combination.replace('+', ' + ')}"
    labels = [item.label for item in pictures]
    height, width = sample.canvas
    return PictureCard(
        title,
        regret,
        tuple(pictures),
        labels.index(focus),
        round(width * min(1, MAX_SIDE / max(height, width))),
    )


def _crop_box(images: Sequence[Tensor]) -> tuple[int, int, int, int] | None:
    """Returns the region in which images differ most: top, bottom, left, right; None if they are small."""
    height, width = images[0].shape[-2:]
    if min(height, width) < 2 * _MIN_SIDE:
        return None
    side_y, side_x = round(height * _CROP_FRACTION), round(width * _CROP_FRACTION)
    spread = torch.stack(list(images)).var(0).mean(0)[None, None]
    sums = torch.nn.functional.avg_pool2d(spread, (side_y, side_x), stride=8)[0, 0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return row * 8, row * 8 + side_y, column * 8, column * 8 + side_x


def _encode(image: Tensor) -> str:
    """Returns an image as a data address, reduced to :data:`MAX_SIDE`."""
    height, width = image.shape[-2:]
    factor = min(1, MAX_SIDE / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    buffer = io.BytesIO()
    to_pil(resize(image[None], size)[0]).save(buffer, "WEBP", quality=_WEBP_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def draw_cards(
    entries: Mapping[str, Sequence[Result]],
    focus: str,
    count: int,
    make: Callable[[Result], Sample],
    scorers: Mapping[str, PlanScorer],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[PictureCard]:
    """Returns the cards of the samples with the worst regrets.

    Args:
        entries: The results of each entry by its label, in the same order of samples.
        focus: Label of the entry in focus.
        count: Number of cards.
        make: Makes the sample of a result again.
        scorers: Runs plans, by name of the toolbox.
        progress: Called with the number of cards done and in all.
    """
    chosen = worst_regrets(entries, focus, count)
    cards: list[PictureCard] = []
    for index, regret in chosen:
        results = {label: rows[index] for label, rows in entries.items()}
        cards.append(draw_card(results, make(results[focus]), scorers, focus, regret))
        progress(len(cards), len(chosen))
    return cards
