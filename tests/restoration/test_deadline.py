"""The time limit of a photograph: between tools, between tiles, and while plans are tried."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from opera_env.errors import TimeLimitError
from opera_env.restoration import Restorer, RestorerConfig
from opera_env.restoration.deadline import Deadline
from opera_env.tools import Toolbox

IMAGE = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))


class SlowTool:
    """Takes a second of a clock for each image or tile that is not as tiny as those that measure memory."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self, image: Tensor) -> Tensor:
        self.seconds += image.shape[-1] >= 50
        return image * 0.9


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> SlowTool:
    slow = SlowTool()
    monkeypatch.setattr("opera_env.restoration.deadline.monotonic", lambda: float(slow.seconds))
    return slow


def make_restorer(tool: SlowTool, **options: object) -> Restorer:
    toolbox = Toolbox().add("slow", tool, degradations=["noise"])
    return Restorer(toolbox, RestorerConfig(**options))  # pyright: ignore[reportArgumentType]


def test_a_plan_ends_before_the_tool_for_which_no_time_is_left(tool: SlowTool) -> None:
    restorer = make_restorer(tool, plan=("slow",) * 50, max_seconds=2.5)
    with pytest.raises(
        TimeLimitError, match=r"within 2\.5 s, ended after 0 of 1 tiles of slow: raise --max"
    ):
        restorer.restore(IMAGE)
    assert tool.seconds == 3


def test_a_large_photograph_ends_between_tiles(tool: SlowTool) -> None:
    restorer = make_restorer(tool, plan=("slow",), max_seconds=2.5, max_memory=10**10)
    with pytest.raises(TimeLimitError, match=r"ended after [1-3] of \d\d tiles of slow"):
        restorer.restore(torch.zeros(3, 40, 80_000))


def test_a_search_ends_while_it_tries_plans(tool: SlowTool) -> None:
    restorer = make_restorer(tool, agent="greedy", max_tools=50, tool_cost=-100.0, max_seconds=4.5)
    with pytest.raises(TimeLimitError, match="tiles of slow for planning"):
        restorer.restore(IMAGE)
    assert tool.seconds == 5


def test_a_photograph_in_time_is_restored(tool: SlowTool) -> None:
    """The clock starts anew for each photograph, and what is finished counts."""
    restorer = make_restorer(tool, plan=("slow",) * 2, max_seconds=1.5)
    for _ in range(3):
        assert torch.allclose(restorer.restore(IMAGE).image, IMAGE * 0.81)


def test_without_a_limit_there_is_no_end() -> None:
    Deadline().check("slow", 0, 1)
    Deadline(1e9).check("slow", 0, 1)
    with pytest.raises(TimeLimitError):
        Deadline(-1).check("slow", 0, 1)
