"""The picture sheet of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opera_env.evaluation import sheet as sheet_module
from opera_env.evaluation.compare import Comparison, EvaluationConfig, compare_agents
from opera_env.evaluation.sheet import draw_sheet, write_sheet
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Plan, Sample


class FixedPlan:
    closed_loop = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(self.plan) for _ in observations]


@pytest.fixture(scope="module")
def comparison(samples: list[Sample], make_toolbox: Callable[[], Toolbox]) -> Comparison:
    agents = {"untouched": FixedPlan(()), "nothing": FixedPlan(()), "dark": FixedPlan(("tiny.darken",))}
    return compare_agents(agents, samples, make_toolbox(), EvaluationConfig("classic", regret=False))


def cells(sheet: Image.Image, row_tops: Sequence[int], columns: int) -> list[list[np.ndarray]]:
    """The middle of each picture."""
    pixels = np.asarray(sheet, float)
    lefts = [12 + column * 188 for column in range(columns)]
    return [[pixels[top + 40 : top + 100, left + 40 : left + 100] for left in lefts] for top in row_tops]


def test_columns_are_input_agents_and_reference(
    comparison: Comparison, samples: list[Sample], toolbox: Toolbox
) -> None:
    sheet = draw_sheet(comparison, samples[:1], toolbox)
    assert sheet.width == 2 * 12 + 4 * 180 + 3 * 8
    ((given, nothing, dark, reference),) = cells(sheet, [12 + 4 * 16 + 3 * 8], 4)
    assert np.array_equal(given, nothing), "the empty plan shows the input"
    assert dark.mean() < given.mean() - 5
    assert not np.array_equal(reference, given)


def test_each_sample_has_a_row_up_to_a_limit(
    comparison: Comparison, samples: list[Sample], toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_row_sheet = draw_sheet(comparison, samples[:1], toolbox)
    all_rows = draw_sheet(comparison, samples, toolbox)
    assert all_rows.height > one_row_sheet.height + (len(samples) - 1) * 100
    monkeypatch.setattr(sheet_module, "MAX_ROWS", 1)
    assert draw_sheet(comparison, samples, toolbox).height == one_row_sheet.height


def test_images_without_reference_have_no_reference_column(samples: list[Sample], toolbox: Toolbox) -> None:
    blind = [sample.blind() for sample in samples[:1]]
    agents = {"dark": FixedPlan(("tiny.darken",))}
    comparison = compare_agents(agents, blind, toolbox, EvaluationConfig("no_reference", regret=False))
    assert draw_sheet(comparison, blind, toolbox).width == 2 * 12 + 2 * 180 + 8


@pytest.mark.parametrize(("name", "format"), [("sheet.jpg", "JPEG"), ("deep/sheet.png", "PNG")])
def test_a_sheet_is_written_in_the_format_of_its_name(name: str, format: str, tmp_path: Path) -> None:
    sheet = Image.new("RGB", (300, 200), "white")
    write_sheet(sheet, tmp_path / name)
    with Image.open(tmp_path / name) as written:
        assert (written.format, written.size) == (format, (300, 200))


def test_a_large_sheet_is_written_with_less_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    write_sheet(Image.fromarray(noise), tmp_path / "large.jpg")
    size = (tmp_path / "large.jpg").stat().st_size
    monkeypatch.setattr(sheet_module, "MAX_BYTES", size - 1)
    write_sheet(Image.fromarray(noise), tmp_path / "small.jpg")
    assert (tmp_path / "small.jpg").stat().st_size < size
