"""Images of before and after: captions stay within their columns, whatever the plan."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opera_env.cli.comparison import draw_comparison
from opera_env.data.photo import Photo
from opera_env.restoration import Restoration
from opera_env.types import Decision, Plan

LONG: Plan = tuple(f"nafnet.tool_number_{number}" for number in range(6))


def draw(plan: Plan, height: int = 60, width: int = 200) -> np.ndarray:
    before = Photo(np.full((height, width, 3), 255, np.uint8))
    result = Restoration(torch.zeros(3, height, width), Decision(plan), (), 0.0)
    return draw_comparison(before, result).pixels


@pytest.mark.parametrize("plan", [(), ("a",), LONG[:2], LONG], ids=len)
def test_the_width_is_that_of_the_two_images_for_plans_of_any_length(plan: Plan) -> None:
    pixels = draw(plan)
    assert pixels.shape[1] == 2 * 200 + 4
    assert (pixels[-60:, -200:] == 0).all(), "the result is at the right, below the caption"
    assert (pixels[-60:, :200] == 255).all()


def test_long_plans_continue_on_further_lines() -> None:
    heights = [draw(plan).shape[0] for plan in (LONG[:1], LONG[:3], LONG)]
    assert heights[0] < heights[1] < heights[2]
    lines = np.any(draw(LONG)[:-60, 204:] < 128, axis=(1, 2))
    starts = int((lines[1:] & ~lines[:-1]).sum())
    assert starts >= 6, "six tools of over a hundred pixels need six lines of 200 pixels"


def test_a_narrow_image_gets_a_column_as_wide_as_the_longest_name() -> None:
    narrow, wide = draw(LONG, width=3).shape[1], draw(LONG[:1], width=3).shape[1]
    assert narrow == wide > 200
