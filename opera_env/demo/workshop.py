"""Restores photographs for the page: the plan, the image after each tool, and the best other plans."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BoundedSemaphore, RLock

from torch import Tensor

from opera_env.data.images import quantise, resize
from opera_env.data.photo import FORMATS, Photo
from opera_env.data.read import read_photo, read_size
from opera_env.data.write import write_photo
from opera_env.errors import BusyError, ImageFileError, SettingError
from opera_env.execution import Executor
from opera_env.metrics import MetricSuite
from opera_env.restoration import Restorer, RestorerConfig
from opera_env.tools import Toolbox
from opera_env.types import Decision, Plan, Sample, SampleSpec

_MAX_RESTORERS = 4
"""Pairs of agent and toolbox that stay in memory."""


@dataclass(frozen=True, eq=False)
class Restored:
    """What the page shows of a restored photograph.

    Attributes:
        photo: The photograph as its file holds it.
        toolbox: Name of the toolbox.
        decision: The plan, with probabilities of degradations where the agent states them.
        images: The photograph and the image after each tool, float32 (3, H, W) in [0, 1].
        scores: Score by the critic, 0 to 10, of each of the images.
        variants: Other plans that were tried, the best first: the plan, its score and its image.
        planning_seconds: Seconds that the agent took.
        tool_seconds: Seconds that all tools took, those of the variants included.
        reason: Why this plan was chosen; None if it is not known.
    """

    photo: Photo
    toolbox: str
    decision: Decision
    images: tuple[Tensor, ...]
    scores: tuple[float, ...]
    variants: tuple[tuple[Plan, float, Tensor], ...] = ()
    planning_seconds: float = 0.0
    tool_seconds: float = 0.0
    reason: str | None = None

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.decision.plan

    def write(self, folder: Path, name: str) -> Path:
        """Writes the result in the format of the photograph, with its metadata; returns the path.

        Args:
            folder: The folder.
            name: Name of the photograph; the suffix follows from the format.
        """
        path = folder / f"{Path(name).stem}-restored{FORMATS[self.photo.format].suffixes[0]}"
        write_photo(path, self.photo.with_image(self.images[-1]), overwrite=True)
        return path


class Workshop:
    """Restores photographs one at a time, with agents and toolboxes that stay in memory.

    Args:
        device: Device of the tools.
        max_megapixels: Largest photograph that is accepted.
        max_tools: Maximum number of tools in a plan.
        num_plans: Number of plans that an agent samples, if it can.
        tool_cost: Cost of each tool in points of R_q.
        max_waiting: Number of requests that may wait for their turn.

    Attributes:
        max_tools: As above.
    """

    def __init__(
        self,
        device: str = "cpu",
        max_megapixels: float = 4.0,
        max_tools: int = 6,
        num_plans: int = 6,
        tool_cost: float = 0.1,
        max_waiting: int = 16,
    ) -> None:
        self.max_tools = max_tools
        self._turns = BoundedSemaphore(1 + max_waiting)
        self._device, self._max_pixels = device, int(max_megapixels * 1e6)
        self._num_plans, self._tool_cost = num_plans, tool_cost
        self._toolboxes: dict[str, Toolbox] = {}
        self._restorers: OrderedDict[tuple[str, str], Restorer] = OrderedDict()
        self._critic = MetricSuite(["critic"])
        self._lock = RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for its turn; nothing else is restored until the ``with`` statement ends.

        Raises:
            BusyError: If too many requests wait already.
        """
        if not self._turns.acquire(blocking=False):
            raise BusyError("too many requests are waiting: try again in a minute.")
        try:
            with self._lock:
                yield
        finally:
            self._turns.release()

    def toolbox(self, name: str) -> Toolbox:
        """Returns a toolbox by name; it is loaded once."""
        with self._lock:
            return self._load(name)

    def _load(self, name: str) -> Toolbox:
        if name not in self._toolboxes:
            self._toolboxes[name] = Toolbox.load(name, self._device)
        return self._toolboxes[name]

    def open(self, path: Path | str) -> Photo:
        """Reads a photograph after its size was checked.

        Raises:
            ImageFileError: If it cannot be read, or is too large for the page.
        """
        height, width = read_size(path)
        if height * width > self._max_pixels:
            raise ImageFileError(
                path,
                f"expected at most {self._max_pixels / 1e6:g} megapixels, found "
                f"{height * width / 1e6:.1f}: opera-env restore takes larger photographs",
            )
        return read_photo(path)

    def restore(
        self,
        photo: Photo,
        agent: str,
        toolbox: str,
        plan: Sequence[str] | None = None,
        num_variants: int = 3,
    ) -> Restored:
        """Plans for a photograph, or takes a plan, and runs it.

        Args:
            photo: The photograph.
            agent: Name of the agent; not used with a plan.
            toolbox: Name of the toolbox.
            plan: Names of tools, or None to let the agent plan.
            num_variants: Largest number of other plans that are run too.

        Raises:
            BusyError: If too many requests wait already.
            OperaError: If the agent, a tool or the plan fails.
        """
        with self.turn():
            tools, image = self._load(toolbox), photo.tensor()
            start = time.perf_counter()
            if plan is not None:
                planned_scores: Mapping[Plan, float] = {}
                decision, reason = Decision(self._checked(plan, tools)), None
            else:
                planned = self._restorer(agent, toolbox).plan(image)
                decision, planned_scores, reason = planned.decision, planned.scores, planned.reason
            planning_seconds = time.perf_counter() - start
            others = self._best_others(planned_scores, decision.plan, num_variants)
            prefixes = [decision.plan[:count] for count in range(len(decision.plan) + 1)]
            start = time.perf_counter()
            images = run_plans(tools, image, [*prefixes, *others])
            tool_seconds = time.perf_counter() - start
            steps = tuple(images[prefix] for prefix in prefixes)
            return Restored(
                photo=photo,
                toolbox=toolbox,
                decision=decision,
                images=steps,
                scores=tuple(self.score(step) for step in steps),
                variants=tuple((other, self.score(images[other]), images[other]) for other in others),
                planning_seconds=planning_seconds,
                tool_seconds=tool_seconds,
                reason=reason,
            )

    def score(self, image: Tensor) -> float:
        """Returns the score of an image by the critic, 0 to 10."""
        return self._critic(quantise(image)[None], [()])[0]["critic"]

    def _best_others(self, scores: Mapping[Plan, float], chosen: Plan, count: int) -> list[Plan]:
        """Returns the plans with the highest scores beside the chosen and the empty one."""
        others = [plan for plan in scores if plan and plan != chosen]
        return sorted(others, key=lambda plan: self._tool_cost * len(plan) - scores[plan])[:count]

    def _checked(self, plan: Sequence[str], toolbox: Toolbox) -> Plan:
        if len(plan) > self.max_tools:
            raise SettingError("plan", ",".join(plan), f"at most {self.max_tools} tools, found {len(plan)}")
        return tuple(toolbox[name].name for name in plan)

    def _restorer(self, agent: str, toolbox: str) -> Restorer:
        key = agent, toolbox
        if key not in self._restorers:
            config = RestorerConfig(
                agent=agent,
                max_tools=self.max_tools,
                num_plans=self._num_plans,
                tool_cost=self._tool_cost,
            )
            self._restorers[key] = Restorer(self._load(toolbox), config)
            if len(self._restorers) > _MAX_RESTORERS:
                self._restorers.popitem(last=False)
        self._restorers.move_to_end(key)
        return self._restorers[key]


def run_plans(toolbox: Toolbox, image: Tensor, plans: Sequence[Plan]) -> dict[Plan, Tensor]:
    """Runs plans on an image; common prefixes run once.

    Args:
        toolbox: The tools.
        image: float32 (3, H, W) in [0, 1].
        plans: The plans.

    Returns:
        The result of each plan at the size of the image, float32 (3, H, W) in [0, 1], on the CPU.
    """
    height, width = image.shape[-2:]
    sample = Sample(image, None, None, (height, width), SampleSpec("photograph", 0))
    distinct = list(dict.fromkeys(plans))
    results = Executor(toolbox).run([sample] * len(distinct), distinct)
    return {
        result.plan: resize(result.image[None], sample.canvas)[0].clamp(0, 1).cpu() for result in results
    }


def with_variant(restored: Restored, index: int) -> Restored:
    """Returns the result with one of its variants in place of its plan, which becomes a variant itself.

    What was said about the plan does not hold for the variant.
    """
    plan, score, image = restored.variants[index]
    previous = (restored.plan, restored.scores[-1], restored.images[-1])
    return replace(
        restored,
        decision=replace(restored.decision, plan=plan, reasoning=None),
        reason=None,
        images=(restored.images[0], image),
        scores=(restored.scores[0], score),
        variants=(*restored.variants[:index], previous, *restored.variants[index + 1 :]),
    )
