"""Restoring photographs from Python: agents, windows and memory limits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor

from opera_env.data.images import to_tensor
from opera_env.errors import (
    AgentError,
    MemoryLimitError,
    PlanParseError,
    ToolFailedError,
    UnknownPresetError,
    UnknownToolError,
)
from opera_env.execution import Executor
from opera_env.restoration import Restorer, RestorerConfig, planning
from opera_env.restoration import restorer as restorer_module
from opera_env.restoration.memory import LIBRARY_BYTES, MIN_TILE_BYTES
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample, SampleSpec

PLAN = ("tiny.blur", "tiny.brighten", "tiny.blur")

Draw = Callable[[int, int, int], Image.Image]


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def image(make_photograph: Draw) -> Tensor:
    return to_tensor(np.asarray(make_photograph(70, 90, 4)))


def sample(image: Tensor, scale: int = 1) -> Sample:
    canvas = (image.shape[-2] * scale, image.shape[-1] * scale)
    return Sample(image, None, None, canvas, SampleSpec("photograph", 0))


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("plan", [(), ("tiny.blur",), PLAN, ("tiny.enlarge", "tiny.blur")])
def test_a_plan_does_what_the_executor_does(
    plan: tuple[str, ...], scale: int, image: Tensor, toolbox: Toolbox
) -> None:
    result = Restorer(toolbox, RestorerConfig(plan=plan, scale=scale)).restore(image)
    expected = next(iter(Executor(toolbox).run([sample(image, scale)], [plan]))).image
    if expected.shape != result.image.shape:
        expected = torch.nn.functional.interpolate(
            expected[None], tuple(result.image.shape[-2:]), mode="bicubic", antialias=True
        )[0]
    assert tuple(result.image.shape) == (3, 70 * scale, 90 * scale)
    assert torch.allclose(result.image, expected, atol=1e-5)
    assert result.decision == Decision(plan)
    assert len(result.tool_seconds) == len(plan)
    assert all(seconds >= 0 for seconds in result.tool_seconds)


@pytest.mark.parametrize("scale", [1, 4])
def test_the_result_equals_the_image_that_is_scored(scale: int, image: Tensor, toolbox: Toolbox) -> None:
    result = Restorer(toolbox, RestorerConfig(plan=PLAN, scale=scale)).restore(image)
    outcome = PlanScorer(toolbox, "label_free").score([sample(image, scale)], [PLAN])[0]
    assert outcome.restored is not None
    assert ((result.image.clamp(0, 1) * 255).round().to(torch.uint8) == outcome.restored).all()


def test_tiles_do_not_change_the_result(toolbox: Toolbox) -> None:
    large = noise(300, 400)
    reports: list[tuple[str, int, int]] = []
    config = RestorerConfig(plan=PLAN)
    restorer = Restorer(toolbox, config, lambda *report: reports.append(report))
    restorer.config = RestorerConfig(plan=PLAN, max_memory=lowest_limit(restorer, large, PLAN))
    result = restorer.restore(large)
    whole = large[None]
    with torch.inference_mode():
        for name in PLAN:
            whole = toolbox[name](whole, (300, 400))
    assert torch.allclose(result.image, whole[0], atol=1e-5)
    assert [name for name, done, _ in reports if done == 0] == list(PLAN)


@pytest.mark.parametrize(("height", "width"), [(8, 9), (300, 400), (40, 2000)])
def test_progress_is_reported_for_each_tile(height: int, width: int, toolbox: Toolbox) -> None:
    reports: list[tuple[str, int, int]] = []
    result = Restorer(toolbox, RestorerConfig(plan=PLAN), lambda *report: reports.append(report)).restore(
        noise(height, width)
    )
    for name in PLAN:
        total = reports[0][2]
        assert reports[: total + 1] == [(name, done, total) for done in range(total + 1)]
        del reports[: total + 1]
    assert reports == []
    assert len(result.tool_seconds) == len(PLAN)


def test_the_input_is_not_modified(image: Tensor, toolbox: Toolbox) -> None:
    before = image.clone()
    for plan in ((), PLAN):
        Restorer(toolbox, RestorerConfig(plan=plan)).restore(image)
        assert (image == before).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 200), (5, 3), (70, 40)])
@pytest.mark.parametrize("agent", ["untouched", "random", "greedy", "greedy-blind"])
def test_agents_take_images_of_any_size(agent: str, height: int, width: int, toolbox: Toolbox) -> None:
    reports: list[str] = []
    config = RestorerConfig(agent=agent, max_tools=2, seed=1)
    restorer = Restorer(toolbox, config, lambda name, *_: reports.append(name))
    result = restorer.restore(noise(height, width))
    assert tuple(result.image.shape) == (3, height, width)
    assert len(result.tool_seconds) == len(result.decision.plan) <= 2
    assert {name for name in reports if not name.startswith("planning: ")} == set(result.decision.plan)
    assert (len(reports) > 2 * len(result.decision.plan)) == agent.startswith("greedy"), (
        "a search runs tools"
    )
    assert result.planning_seconds > 0
    if agent == "untouched":
        assert result.decision.plan == ()


class RecordingAgent:
    """Records its observations and returns a plan of one tool."""

    closed_loop = False
    shown: list[Observation]

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        type(self).shown += observations
        return [self.decide(seen) for seen in observations]

    def decide(self, seen: Observation) -> Decision:
        return Decision(("tiny.brighten",), frozenset({"low_light"}), "dark")


class ClosedRecordingAgent(RecordingAgent):
    closed_loop = True

    def decide(self, seen: Observation) -> Decision:
        if len(seen.used) == 2:
            return Decision(())
        return Decision(("tiny.darken",), frozenset({f"found {len(seen.used)}"}), f"step {len(seen.used)}")


class RememberingAgent(ClosedRecordingAgent):
    uses_history = True


class UnreadableAgent(RecordingAgent):
    def decide(self, seen: Observation) -> Decision:
        return Decision((), error=PlanParseError("no list"))


class LateUnreadableAgent(ClosedRecordingAgent):
    def decide(self, seen: Observation) -> Decision:
        if seen.used:
            return Decision((), error=PlanParseError("no list"))
        return super().decide(seen)


class TwoPlans(RecordingAgent):
    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(()), Decision(())]


@pytest.fixture
def restore_with(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``restore_with(agent class, image, **options)``."""

    def restore(agent: type[RecordingAgent], image: Tensor, **options: Any) -> Any:
        module = ModuleType("my_agents")
        module.__dict__["Agent"] = agent
        agent.shown = []
        monkeypatch.setitem(sys.modules, "my_agents", module)
        return Restorer(toolbox, RestorerConfig(agent="my_agents:Agent", **options)).restore(image)

    return restore


def test_an_open_loop_agent_acts_once(restore_with: Callable[..., Any], image: Tensor) -> None:
    result = restore_with(RecordingAgent, image)
    assert result.decision == Decision(("tiny.brighten",), frozenset({"low_light"}), "dark")
    assert len(RecordingAgent.shown) == 1
    assert RecordingAgent.shown[0].steps_left == 6
    assert torch.allclose(result.image, (image + 0.1).clamp(max=1), atol=1e-4)


@pytest.mark.parametrize(
    ("agent", "turns"), [(ClosedRecordingAgent, [0, 0, 0]), (RememberingAgent, [0, 1, 2])]
)
def test_agents_that_use_the_history_observe_it(
    restore_with: Callable[..., Any], image: Tensor, agent: type[RecordingAgent], turns: list[int]
) -> None:
    restore_with(agent, image)
    assert [len(seen.history) for seen in agent.shown] == turns


def test_a_closed_loop_agent_observes_its_results(restore_with: Callable[..., Any], image: Tensor) -> None:
    result = restore_with(ClosedRecordingAgent, image)
    expected = Decision(("tiny.darken",) * 2, frozenset({"found 0"}), "step 0\nstep 1")
    assert result.decision == expected
    assert [len(seen.used) for seen in ClosedRecordingAgent.shown] == [0, 1, 2]
    means = [float(seen.image.mean()) for seen in ClosedRecordingAgent.shown]
    assert means[0] > means[1] > means[2]
    assert len(result.tool_seconds) == 2


@pytest.mark.parametrize("uses_history", [True, False])
def test_an_agent_that_uses_its_history_has_it(
    uses_history: bool, restore_with: Callable[..., Any], image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClosedRecordingAgent, "uses_history", uses_history, raising=False)
    restore_with(ClosedRecordingAgent, image)
    turns = [len(seen.history) for seen in ClosedRecordingAgent.shown]
    assert turns == ([0, 1, 2] if uses_history else [0, 0, 0])


def test_an_agent_stops_after_max_tools(restore_with: Callable[..., Any], image: Tensor) -> None:
    assert restore_with(ClosedRecordingAgent, image, max_tools=1).decision.plan == ("tiny.darken",)


@pytest.mark.parametrize("agent", [UnreadableAgent, LateUnreadableAgent])
def test_an_unreadable_answer_is_not_the_empty_plan(
    agent: type[RecordingAgent], restore_with: Callable[..., Any], image: Tensor
) -> None:
    with pytest.raises(AgentError, match="no list"):
        restore_with(agent, image)


def test_a_wrong_number_of_plans_is_an_error(restore_with: Callable[..., Any], image: Tensor) -> None:
    with pytest.raises(AgentError, match="1 plans"):
        restore_with(TwoPlans, image)


@pytest.mark.parametrize(
    ("window", "scale", "expected"),
    [(64, 1, (64, 64)), (0, 1, (70, 90)), (80, 1, (70, 80)), (64, 2, (128, 128)), (500, 1, (70, 90))],
)
def test_an_agent_observes_a_window(
    window: int, scale: int, expected: tuple[int, int], restore_with: Callable[..., Any], image: Tensor
) -> None:
    result = restore_with(RecordingAgent, image, window=window, scale=scale)
    assert tuple(RecordingAgent.shown[0].image.shape[-2:]) == expected
    assert tuple(result.image.shape) == (3, 70 * scale, 90 * scale)


def test_unknown_names_are_errors_of_the_constructor(toolbox: Toolbox) -> None:
    with pytest.raises(UnknownToolError, match=r"no\.tool"):
        Restorer(toolbox, RestorerConfig(plan=("tiny.blur", "no.tool")))
    with pytest.raises(UnknownPresetError, match="unknown"):
        Restorer(toolbox, RestorerConfig(agent="unknown"))


def test_a_given_plan_needs_no_metrics(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("metrics must not be loaded")

    monkeypatch.setattr(planning, "PlanScorer", refuse)
    assert Restorer(toolbox, RestorerConfig(plan=())).restore(noise(4, 4)).decision.plan == ()
    with pytest.raises(AssertionError):
        Restorer(toolbox, RestorerConfig(agent="greedy"))


def test_a_failing_tool_is_an_error(toolbox: Toolbox) -> None:
    toolbox.add("bad.nan", lambda image: image * float("nan"))
    restorer = Restorer(toolbox, RestorerConfig(plan=("tiny.blur", "bad.nan")))
    with pytest.raises(ToolFailedError, match=r"'bad\.nan' failed after tiny\.blur"):
        restorer.restore(noise(8, 8))


def lowest_limit(restorer: Restorer, image: Tensor, plan: Sequence[str]) -> int:
    """Returns the lowest limit that the image passes, by bisection."""
    low, high = 0, int(1e12)
    while high - low > 1:
        middle = (low + high) // 2
        restorer.config = RestorerConfig(plan=tuple(plan), max_memory=middle, scale=restorer.config.scale)
        try:
            restorer.check_size(image.shape[-2], image.shape[-1])
            high = middle
        except MemoryLimitError:
            low = middle
    return high


@pytest.mark.parametrize(
    ("plan", "scale", "pixels"),
    [
        ((), 1, 1 + 1 + 2),  # the photograph, the result, and the file that is written
        (("tiny.blur",), 1, 1 + 1 + 2),
        ((), 3, 1 + 1 + 18),
        (("tiny.enlarge",), 4, 1 + 16 + 32),
        (("tiny.enlarge",), 2, 1 + 16 + 8),
        (("tiny.enlarge", "tiny.blur"), 2, 1 + 32),
    ],
)
def test_the_memory_limit_is_exact(
    plan: tuple[str, ...], scale: int, pixels: int, toolbox: Toolbox
) -> None:
    image = noise(40, 50)
    restorer = Restorer(toolbox, RestorerConfig(plan=plan, scale=scale))
    least = lowest_limit(restorer, image, plan)
    assert least == restorer._rss + LIBRARY_BYTES + MIN_TILE_BYTES + pixels * 40 * 50 * 3 * 4
    restorer.config = RestorerConfig(plan=plan, scale=scale, max_memory=least)
    assert tuple(restorer.restore(image).image.shape) == (3, 40 * scale, 50 * scale)
    restorer.config = RestorerConfig(plan=plan, scale=scale, max_memory=least - 1)
    with pytest.raises(MemoryLimitError):
        restorer.restore(image)


def test_the_memory_error_says_how_much_is_needed(toolbox: Toolbox) -> None:
    restorer = Restorer(toolbox, RestorerConfig(plan=(), scale=2, max_memory=int(3e9)))
    with pytest.raises(MemoryLimitError) as error:
        restorer.check_size(height=9000, width=12000)
    needed = restorer._rss + LIBRARY_BYTES + MIN_TILE_BYTES + (1 + 1 + 2 * 4) * 9000 * 12000 * 12
    message = str(error.value)
    assert "12000 x 9000 pixels at scale 2" in message
    assert f"need {needed / 1e9:.1f} GB" in message
    assert "only 3.0 GB" in message
    assert "--max-memory" in message
    restorer.check_size(height=1000, width=1000)


def test_without_a_limit_half_of_the_free_memory_may_be_used(
    toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10**11
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    restorer = Restorer(toolbox, RestorerConfig(plan=("tiny.blur",)))
    restorer.check_size(8000, 12000)
    free = 8 * 10**9
    with pytest.raises(MemoryLimitError, match=r"only 4\.0 GB are allowed"):
        restorer.check_size(8000, 12000)
    free = 10**9
    restorer.check_size(1000, 1000)
    with pytest.raises(MemoryLimitError, match=r"only 2\.5 GB are allowed"):
        restorer.check_size(8000, 12000)


def test_less_memory_makes_smaller_tiles(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    given_bytes: list[int] = []

    class RecordingExecutor(Executor):
        def __init__(self, toolbox: Toolbox, *, max_tile_bytes: int, **options: Any) -> None:
            given_bytes.append(max_tile_bytes)
            super().__init__(toolbox, max_tile_bytes=max_tile_bytes, **options)

    monkeypatch.setattr(restorer_module, "Executor", RecordingExecutor)
    image = noise(300, 300)
    restorer = Restorer(toolbox, RestorerConfig(plan=("tiny.blur",)))
    least = lowest_limit(restorer, image, ("tiny.blur",))
    for more in (0, int(1e8), int(1e9)):
        restorer.config = RestorerConfig(plan=("tiny.blur",), max_memory=least + more)
        restorer.restore(image)
    assert given_bytes == [(MIN_TILE_BYTES + more) // 2 for more in (0, int(1e8), int(1e9))]
