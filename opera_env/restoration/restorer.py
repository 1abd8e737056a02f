"""The restorer: plans for a photograph and runs the plan within a memory limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import psutil
from torch import Tensor

from opera_env.data.images import resize
from opera_env.errors import OutputError
from opera_env.execution import Executor
from opera_env.execution.memory import release_freed_memory
from opera_env.restoration.choice import blend
from opera_env.restoration.config import RestorerConfig
from opera_env.restoration.deadline import Deadline
from opera_env.restoration.memory import SEARCH_CACHE_BYTES, available_tile_memory
from opera_env.restoration.planning import PhotographPlanner, PlannedRestoration
from opera_env.restoration.window import representative_window
from opera_env.tools import Toolbox, pad_to_multiple
from opera_env.types import Canvas, Decision, Plan, Sample, SampleSpec

ProgressCallback = Callable[[str, int, int], None]
"""Called with the name of a tool, the number of tiles done and the number of tiles in all."""


@dataclass(frozen=True, eq=False)
class Restoration:
    """The result for one photograph.

    Attributes:
        image: float32 (3, scale * H, scale * W), neither clamped nor rounded.
        decision: The plan, with the degradations and their probabilities where the agent states them.
        tool_seconds: Seconds that each tool of the plan took.
        planning_seconds: Seconds that the agent took.
        scores: Score by the critic of each plan that a search tried; empty for other agents.
        reason: Why this plan was chosen, or why the photograph is left unchanged; None if unknown.
        strength: Share of the result of the tools in the image; the rest is the photograph.
        strengths: Score by the critic of each strength that it compared; empty if the strength was given.
    """

    image: Tensor
    decision: Decision
    tool_seconds: tuple[float, ...]
    planning_seconds: float
    scores: Mapping[Plan, float] = field(default_factory=dict)
    reason: str | None = None
    strength: float = 1.0
    strengths: Mapping[float, float] = field(default_factory=dict)


class Restorer:
    """Restores photographs one by one.

    Args:
        toolbox: The tools.
        config: The agent and its settings, and the memory limit.
        on_progress: Called after each tile of each tool, while a plan is chosen and while it is applied.

    Attributes:
        max_plans: Most plans that are tried for one photograph; None if that is not known.

    Raises:
        UnknownToolError: If the configured plan names a tool that the toolbox lacks.
        UnknownDegradationError: If no tool is for a degradation that is to be fixed.

    Example:
        >>> import torch
        >>> config = RestorerConfig(plan=("brighten.constant_shift",))
        >>> result = Restorer(Toolbox.load("lite"), config).restore(torch.zeros(3, 5, 7))
        >>> tuple(result.image.shape), round(result.image.mean().item() * 255)
        ((3, 5, 7), 40)
    """

    def __init__(
        self,
        toolbox: Toolbox,
        config: RestorerConfig | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.config = config = config or RestorerConfig()
        self.on_progress = on_progress
        for name in config.plan or ():
            toolbox[name]  # raises for an unknown name before any photograph is read
        self._planner = None if config.plan is not None else PhotographPlanner(toolbox, config)
        self.max_plans = None if self._planner is None else self._planner.max_plans
        self._rss = psutil.Process().memory_info().rss if toolbox.device.type == "cpu" else 0

    def require_scores(self, option: str) -> None:
        """Checks that plans are chosen by scores.

        Args:
            option: What needs the scores, for the error.

        Raises:
            OutputError: If the plan is given, or the agent writes one plan that is not scored.
        """
        if self._planner is None:
            raise OutputError(f"{option} needs plans with scores, and one plan is given: leave it out")
        self._planner.require_scores(option)

    def restore(self, image: Tensor) -> Restoration:
        """Plans for an image and runs the plan.

        Args:
            image: float32 (3, H, W) in [0, 1], of any size.

        Raises:
            AgentError: If the agent's answer cannot be parsed.
            ToolFailedError: If a tool fails.
            MemoryLimitError: If the image does not fit into the allowed memory.
            TimeLimitError: If it takes longer than allowed.
        """
        start, deadline = time.perf_counter(), Deadline(self.config.max_seconds)
        planned = self.plan(image, deadline)
        planning_seconds = time.perf_counter() - start
        plan = planned.decision.plan
        restored, tool_seconds = self.apply_plan(image, plan, deadline, planned.strength)
        return Restoration(
            restored,
            planned.decision,
            tool_seconds,
            planning_seconds,
            planned.scores,
            planned.reason,
            planned.strength,
            planned.strengths,
        )

    def restore_variant(self, image: Tensor, result: Restoration, plan: Plan) -> Restoration:
        """Applies another plan that was tried for a photograph, at the strength of its restoration.

        Args:
            image: float32 (3, H, W) in [0, 1], of any size.
            result: The restoration of the photograph.
            plan: The plan.

        Raises:
            ToolFailedError: If a tool fails.
            MemoryLimitError: If the image does not fit into the allowed memory.
            TimeLimitError: If it takes longer than allowed.
        """
        deadline = Deadline(self.config.max_seconds)
        restored, seconds = self.apply_plan(image, plan, deadline, result.strength)
        decision = replace(result.decision, plan=plan)
        return replace(result, image=restored, decision=decision, tool_seconds=seconds)

    def plan(self, image: Tensor, deadline: Deadline | None = None) -> PlannedRestoration:
        """Runs the agent, which observes a window of the image, or all of it if it can see photographs.

        Plans are scored on the window.

        Args:
            image: float32 (3, H, W) in [0, 1], of any size.
            deadline: The end of the allowed time; by default there is none.

        Raises:
            AgentError: If the agent's answer cannot be parsed.
            TimeLimitError: If the time is over.
        """
        if self._planner is None:
            strength = 1.0 if self.config.strength is None else self.config.strength
            return PlannedRestoration(Decision(self.config.plan or ()), strength=strength)
        window = representative_window(image, self.config.window) if self.config.window else image
        window = pad_to_multiple(window[None], 1, minimum=self._planner.min_side)[0]
        deadline = deadline or Deadline()

        def on_tile(name: str, done: int, total: int) -> None:
            deadline.check(f"{name} for planning", done, total)
            if self.on_progress is not None:
                self.on_progress(f"planning: {name}", done, total)

        # An enlarged photograph is seen by the window, since its size is that of the result.
        sees_all = self._planner.sees_photographs and self.config.scale == 1
        seen = self._sample(image) if sees_all else None
        return self._planner.plan(self._sample(window), on_tile, seen)

    def apply_plan(
        self, image: Tensor, plan: Plan, deadline: Deadline | None = None, strength: float = 1.0
    ) -> tuple[Tensor, tuple[float, ...]]:
        """Runs a plan on an image.

        Args:
            image: float32 (3, H, W) in [0, 1], of any size.
            plan: The tools to apply, in order.
            deadline: The end of the allowed time; by default there is none.
            strength: Share of the result of the tools; the rest is the image.

        Returns:
            The result, float32 (3, scale * H, scale * W), and the seconds that each tool took.

        Raises:
            ToolFailedError: If a tool fails.
            MemoryLimitError: If the image does not fit into the allowed memory.
            TimeLimitError: If the time is over.
        """
        sample, deadline = self._sample(image), deadline or Deadline()
        seconds: list[float] = []
        start = 0.0

        def on_tile(name: str, done: int, total: int) -> None:
            nonlocal start
            if done < total:  # a finished tool was in time for the next one or for the result
                deadline.check(name, done, total)
            if done == 0:
                release_freed_memory()
                start = time.perf_counter()
            if done == total:
                seconds.append(time.perf_counter() - start)
            if self.on_progress is not None:
                self.on_progress(name, done, total)

        height, width = image.shape[-2:]
        available = self._available_memory((height, width), plan)
        # Half of the memory, because libraries keep about as much scratch memory as a tile takes.
        executor = Executor(self.toolbox, max_tile_bytes=available // 2, on_tile=on_tile)
        result = next(iter(executor.run([sample], [plan])))
        restored = resize(result.image[None], sample.canvas)[0]
        if strength != 1:
            unchanged = resize(image[None], sample.canvas)[0].to(restored.device)
            restored = blend(unchanged, restored, strength)
        return restored, tuple(seconds)

    def check_size(self, height: int, width: int) -> None:
        """Checks, before a photograph is decoded, that it fits into the allowed memory.

        Args:
            height: Height of the photograph, in pixels.
            width: Width of the photograph, in pixels.

        Raises:
            MemoryLimitError: If it does not fit.
        """
        self._available_memory((height, width), self.config.plan or ())

    def _sample(self, image: Tensor) -> Sample:
        height, width = image.shape[-2:]
        canvas = (height * self.config.scale, width * self.config.scale)
        return Sample(image, None, None, canvas, SampleSpec("photograph", 0))

    def _available_memory(self, size: Canvas, plan: Plan) -> int:
        """Returns the bytes that the memory limit leaves to the tools beside the images."""
        base = self._rss + (0 if self._planner is None else SEARCH_CACHE_BYTES)
        config = self.config
        return available_tile_memory(size, config.scale, plan, self.toolbox, config.max_memory, base)
