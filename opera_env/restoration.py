"""Mends photographs: an agent plans on a view of the picture, the tools run on all of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from opera_env.agents import BLIND_SUFFIX, make_agent, run_agent
from opera_env.data.images import resize
from opera_env.errors import AgentError, MemoryLimitError
from opera_env.execution import Executor, PrefixCache
from opera_env.execution.memory import release_freed_memory
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox, pad_to_multiple
from opera_env.types import Agent, Canvas, Decision, Observation, Plan, Sample, SampleSpec, Search

DEFAULT_TOOLBOX, DEFAULT_AGENT = "lite-cotrained", "planner"
"""The best tools, and the best of the agents that need no reference; docs/restoring.md has the figures."""

_LIBRARY_BYTES = 160 * 2**20
"""Bytes that the first use of a network takes for good: kernels are loaded and compiled."""

_SEARCH_CACHE_BYTES = 128 * 2**20
"""Bytes that a search may keep of what it has tried."""

DEFAULT_MAX_MEMORY = 2_500_000_000
"""Bytes that the process may take where nobody has said."""

MIN_TILE_BYTES = 128 * 2**20
"""Bytes that tools must be left with, beside the images."""

_BYTES_PER_PIXEL = 3 * 4
_WINDOW_STRIDE = 16

ProgressCallback = Callable[[str, int, int], None]
"""Told of a tool's name, tiles done and tiles in all."""


@dataclass(frozen=True)
class RestorerConfig:
    """How photographs are restored.

    Attributes:
        agent: Who plans: a name as :func:`opera_env.agents.make_agent` takes it. Searches are blind
            here, with or without ``-blind``, for a photograph has no reference.
        plan: This plan instead, for every photograph.
        scale: How many times larger the result is than the photograph.
        max_tools: Longest plan of an agent.
        tool_cost: What a tool must earn, for agents that weigh it.
        num_plans: How many plans an agent that can draw several tries before it chooses among them and the
            photograph as it is; 1 tries nothing.
        view: Side of the window, in pixels of the photograph, that the agent plans on; 0 shows it
            everything, which takes a search as many times longer.
        max_memory: Bytes that the process may take, images included; None for 2.5 GB, or for what a
            larger photograph needs if half of the free memory is enough.
        seed: Of agents that draw.
    """

    agent: str = DEFAULT_AGENT
    plan: Plan | None = None
    scale: int = 1
    max_tools: int = 6
    tool_cost: float = 0.1
    num_plans: int = 2
    view: int = 256
    max_memory: int | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Restoration:
    """What became of one photograph.

    Attributes:
        image: float32 (3, scale * H, scale * W), neither clamped nor rounded.
        decision: The plan, and what else the agent said.
        seconds: How long each tool of the plan took.
        planning: How long the agent took.
    """

    image: Tensor
    decision: Decision
    seconds: tuple[float, ...]
    planning: float


class Restorer:
    """Restores photographs one by one.

    Args:
        toolbox: The tools.
        config: Who plans, and within which bounds.
        on_progress: Told of the tools' progress.

    Example:
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
            toolbox[name]  # a wrong name is told before any photograph is read
        self._planner = None if config.plan is not None else _PhotographPlanner(toolbox, config)
        self._rss = psutil.Process().memory_info().rss if toolbox.device.type == "cpu" else 0

    def restore(self, image: Tensor) -> Restoration:
        """Plans and runs the plan.

        Args:
            image: float32 (3, H, W) in [0, 1], of any size.

        Raises:
            AgentError: If the agent's answer cannot be read.
            ToolFailedError: If a tool fails.
            MemoryLimitError: If the image does not fit into the memory allowed.
        """
        start = time.perf_counter()
        decision = self.plan(image)
        planning = time.perf_counter() - start
        restored, seconds = self.run(image, decision.plan)
        return Restoration(restored, decision, seconds, planning)

    def plan(self, image: Tensor) -> Decision:
        """Asks the agent, which sees a window of the image and nothing else."""
        if self._planner is None:
            return Decision(self.config.plan or ())
        view = representative_window(image, self.config.view) if self.config.view else image
        view = pad_to_multiple(view[None], 1, minimum=self._planner.least)[0]  # smaller cannot be judged
        return self._planner.plan(self._sample(view))

    def run(self, image: Tensor, plan: Plan) -> tuple[Tensor, tuple[float, ...]]:
        """Applies a plan; returns the result at canvas size and the seconds of each tool."""
        sample = self._sample(image)
        seconds: list[float] = []
        begin = 0.0

        def on_tile(name: str, done: int, total: int) -> None:
            nonlocal begin
            if done == 0:
                release_freed_memory()
                begin = time.perf_counter()
            if done == total:
                seconds.append(time.perf_counter() - begin)
            if self.on_progress is not None:
                self.on_progress(name, done, total)

        height, width = image.shape[-2:]
        left = self._available_memory((height, width), plan)
        # Half of it: libraries keep scratch memory between calls, about as much as a tile takes.
        executor = Executor(self.toolbox, max_tile_bytes=left // 2, on_tile=on_tile)
        result = next(iter(executor.run([sample], [plan])))
        return resize(result.image[None], sample.canvas)[0], tuple(seconds)

    def _sample(self, image: Tensor) -> Sample:
        height, width = image.shape[-2:]
        canvas = (height * self.config.scale, width * self.config.scale)
        return Sample(image, None, None, canvas, SampleSpec("photograph", 0))

    def check_size(self, height: int, width: int) -> None:
        """Tells whether a photograph fits into the memory allowed, before anybody decodes it.

        Raises:
            MemoryLimitError: If it does not.
        """
        self._available_memory((height, width), self.config.plan or ())

    def _available_memory(self, size: Canvas, plan: Plan) -> int:
        """Bytes that the memory allowed leaves to the tools beside the images."""
        canvas = (size[0] * self.config.scale, size[1] * self.config.scale)
        needed = (
            self._rss + _LIBRARY_BYTES + _peak_pixels(size, canvas, plan, self.toolbox) * _BYTES_PER_PIXEL
        )
        needed += 0 if self._planner is None else _SEARCH_CACHE_BYTES
        allowed = self.config.max_memory
        if allowed is None:
            enough = min(needed + 2 * MIN_TILE_BYTES, psutil.virtual_memory().available // 2)
            allowed = max(DEFAULT_MAX_MEMORY, enough)
        left = allowed - needed
        if left < MIN_TILE_BYTES:
            raise MemoryLimitError(
                f"{size[1]} x {size[0]} pixels at scale {self.config.scale} need "
                f"{(needed + MIN_TILE_BYTES) / 1e9:.1f} GB, but only "
                f"{allowed / 1e9:.1f} GB are allowed: raise --max-memory"
            )
        return left


class _PhotographPlanner:
    """An agent or a search, and what it may ask.

    Attributes:
        least: Shortest side, in pixels, of an image that can be judged.
    """

    def __init__(self, toolbox: Toolbox, config: RestorerConfig) -> None:
        self._max_tools = config.max_tools
        self._player = make_agent(
            config.agent.removesuffix(BLIND_SUFFIX),
            toolbox=toolbox,
            max_tools=config.max_tools,
            seed=config.seed,
            tool_cost=config.tool_cost,
            num_plans=config.num_plans,
        )
        self._scorer = PlanScorer(toolbox, "label_free", cache=PrefixCache(_SEARCH_CACHE_BYTES))
        self.least = max(metric.min_side for metric in self._scorer.metrics.metrics)

    def plan(self, sample: Sample) -> Decision:
        """Lets it play and keeps what it says on the way."""
        heard = None if isinstance(self._player, Search) else _RecordingAgent(self._player)
        played = run_agent(heard or self._player, [sample], self._scorer, self._max_tools)
        said = [] if heard is None else heard.decisions
        reasons = [decision.reasoning for decision in said if decision.reasoning]
        return Decision(
            tuple(played.plans[0]),
            next((decision.degradations for decision in said if decision.degradations is not None), None),
            "\n".join(reasons) or None,
        )


class _RecordingAgent:
    """An agent whose words are kept: of one that looks again, a play returns the plan only."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.closed_loop = agent.closed_loop
        self.decisions: list[Decision] = []

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        decisions = list(self._agent.act(observations))
        for decision in decisions:
            if decision.error is not None:
                raise AgentError(f"the agent's answer is no plan: {decision.error}")
        self.decisions += decisions
        return decisions


def _peak_pixels(size: Canvas, canvas: Canvas, plan: Plan, toolbox: Toolbox) -> int:
    """Most pixels of whole images that are held at once: the photograph, a tool's image, its result.

    The photograph counts twice, as its file is held beside it; so does the result.
    """
    photograph = size[0] * size[1]
    peak = 2 * photograph
    for name in plan:
        before = size[0] * size[1]
        if toolbox[name].upscales(size, canvas):
            size = (size[0] * toolbox[name].scale, size[1] * toolbox[name].scale)
        peak = max(peak, before + size[0] * size[1])
    return photograph + max(peak, size[0] * size[1] + 2 * canvas[0] * canvas[1])


def representative_window(image: Tensor, side: int) -> Tensor:
    """Cuts out the window that is most like the whole image in brightness and contrast.

    Damage such as noise shows in pixels, so an agent must see them as they are; haze and low
    light show in the statistics of the whole.

    Args:
        image: float32 (3, H, W).
        side: Height and width of the window; less where the image ends.

    Returns:
        A view of the image.
    """
    height, width = image.shape[-2:]
    if height <= side and width <= side:
        return image
    luma = image.mean(0, keepdim=True)[None]
    block = min(_WINDOW_STRIDE, height, width)
    means, squares = F.avg_pool2d(luma, block), F.avg_pool2d(luma.square(), block)
    blocks = [min(max(1, side // block), length) for length in means.shape[-2:]]
    window = F.avg_pool2d(torch.cat([means, squares], dim=1), blocks, stride=1)[0]
    deviation = (window[1] - window[0].square()).clamp_min(0).sqrt()
    whole = (squares.mean() - means.mean().square()).clamp_min(0).sqrt()
    distance = (window[0] - means.mean()).abs() + (deviation - whole).abs()
    row, column = divmod(int(distance.argmin()), distance.shape[1])
    top, left = (
        max(0, min(start * block, length - side)) for start, length in ((row, height), (column, width))
    )
    return image[:, top : top + side, left : left + side]
