"""The one place where a plan becomes a score."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opera_env.data.images import quantise, resize
from opera_env.errors import MetricError
from opera_env.execution import (
    MAX_UNTILED_PIXELS,
    MAX_WORKERS,
    ExecutionResult,
    Executor,
    PrefixCache,
    WorkerPool,
)
from opera_env.metrics import Features, MetricSuite
from opera_env.reward import Reward, get_reward
from opera_env.tools import Toolbox
from opera_env.types import Canvas, Outcome, Plan, Sample

_MAX_CACHED_REFERENCES = 64
"""References whose features are kept: more than the images of any one training batch."""

_MIN_SCORING_BATCH = 4
"""Results judged together although fewer would keep more lanes busy."""

_ScoredPlans = dict[tuple[str, Plan], Outcome]
"""Outcomes by sample and plan."""


@dataclass(frozen=True)
class _ReferenceFeatures:
    """What metrics keep of one reference: a row of a batch that may still be computed.

    Batches that are judged wait for it; it was submitted before them, so it has begun.
    """

    batch: Future[list[tuple[Features, ...]]]
    row: int

    @property
    def broken(self) -> bool:
        """Whether nothing will come of it: it failed, or was dropped as something else failed."""
        return self.batch.done() and (self.batch.cancelled() or self.batch.exception() is not None)

    def features(self) -> tuple[Features, ...]:
        return self.batch.result()[self.row]


class PlanScorer:
    """Runs plans and judges the results: execution, metrics and R_q.

    Environments, searches, comparisons and reward functions of trainers all go through
    :meth:`score`, so they cannot drift apart.

    Args:
        toolbox: The tools.
        reward: A preset by name, or a reward of one's own.
        batch: Results judged at once, counted in images of 128 x 128 pixels.
        cache: Remember results from call to call; for closed-loop agents and searches that
            build on earlier plans.

    Attributes:
        images_scored: Distinct results judged so far, in all calls.
        tools_run: Tool applications done so far.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        reward: str | Reward = "lite",
        batch: int = 16,
        cache: PrefixCache | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.reward = get_reward(reward)
        self.metrics = MetricSuite([term.metric for term in self.reward.terms], toolbox.device)
        self.batch_pixels = batch * 128 * 128
        # Networks are larger than metrics: on a CPU half a batch of activations stays in its caches.
        halves = 2 if toolbox.device.type == "cpu" else 1
        self.executor = Executor(toolbox, self.batch_pixels // halves, cache=cache)
        self.images_scored = 0
        self._references: OrderedDict[str, _ReferenceFeatures] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """A copy prepares references again: what may still be computed cannot be copied."""
        return {**vars(self), "_references": OrderedDict()}

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self.toolbox.names

    @property
    def tools_run(self) -> int:
        return self.executor.tools_run

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Runs one plan per sample and judges the results.

        Equal plans on equal images are run and judged once. Plans that begin alike share
        their beginning, whichever samples they belong to.

        Args:
            samples: One per plan; repeat a sample to try several plans on it.
            plans: Tool names in order; ``()`` judges the untouched image.
            restored: Whether outcomes keep their image; searches do not need it.

        Returns:
            One outcome per plan, in order.

        Raises:
            UnknownToolError: If a plan names a tool that the toolbox lacks.
            ToolFailedError: If a tool raises, or returns NaN or infinity.
            MetricError: If the reward needs a reference and a sample has none, or an image
                is too small for a metric.
        """
        if len(samples) != len(plans):
            raise ValueError(f"expected one plan per sample, found {len(samples)} and {len(plans)}.")
        self._check_references(samples)
        waiting: dict[Canvas, list[ExecutionResult]] = {}
        judged: list[Future[_ScoredPlans]] = []
        with WorkerPool(self._lanes(samples)) as lanes:
            self._prefetch_references(lanes, samples)
            for result in self.executor.run(samples, plans, lanes):
                canvas = result.sample.canvas
                waiting.setdefault(canvas, []).append(result)
                if len(waiting[canvas]) >= self._part(canvas, len(samples), lanes):
                    judged.append(self._submit(lanes, waiting.pop(canvas), restored))
            judged += [self._submit(lanes, group, restored) for group in waiting.values()]
            scored: _ScoredPlans = {}
            for future in judged:
                scored.update(future.result())
        return [scored[sample.key, plan] for sample, plan in zip(samples, plans, strict=True)]

    def _lanes(self, samples: Sequence[Sample]) -> int:
        """How many batches are under way at once: on a CPU several, while images are small."""
        small = all(sample.canvas[0] * sample.canvas[1] <= MAX_UNTILED_PIXELS for sample in samples)
        if self.toolbox.device.type != "cpu" or len(samples) < 2 or not small:
            return 1
        return min(MAX_WORKERS, torch.get_num_threads())

    def _part(self, canvas: Canvas, results: int, lanes: WorkerPool) -> int:
        """How many results are judged together: a batch, or fewer where that would leave lanes idle."""
        batch = max(1, self.batch_pixels // (canvas[0] * canvas[1]))
        if lanes.count == 1:
            return batch
        return min(batch, max(_MIN_SCORING_BATCH, -(-results // (2 * lanes.count))))

    def _submit(
        self, lanes: WorkerPool, group: Sequence[ExecutionResult], restored: bool
    ) -> Future[_ScoredPlans]:
        """Begins to judge results of one canvas in one batch."""
        here = not self.metrics.concurrent
        references: list[_ReferenceFeatures] = []
        if self.metrics.needs_reference:
            references = self._reference_features(lanes, [result.sample for result in group], here)
        self.images_scored += len(group)
        return lanes.submit(partial(self._judge, group, references, restored), here)

    def _judge(
        self, group: Sequence[ExecutionResult], references: Sequence[_ReferenceFeatures], restored: bool
    ) -> _ScoredPlans:
        canvas = group[0].sample.canvas
        images = quantise(torch.cat([resize(result.image[None], canvas) for result in group]))
        kept = images.cpu() if restored else None
        outcomes: _ScoredPlans = {}
        rows = self.metrics(images, [reference.features() for reference in references])
        for row, (values, result) in enumerate(zip(rows, group, strict=True)):
            terms = self.reward.contributions(values, result.plan)
            outcomes[result.sample.key, result.plan] = Outcome(
                restored=kept[row].clone() if kept is not None else None,
                metrics=values,
                terms=terms,
                r_q=float(sum(terms.values())),
                tools_run=len(result.plan),
            )
        return outcomes

    def _prefetch_references(self, lanes: WorkerPool, samples: Sequence[Sample]) -> None:
        """Begins to prepare references while no result is there yet, if all of them can be kept."""
        distinct = {sample.key: sample for sample in samples}
        if not self.metrics.needs_reference or len(distinct) > _MAX_CACHED_REFERENCES:
            return
        by_canvas: dict[Canvas, list[Sample]] = {}
        for sample in distinct.values():
            by_canvas.setdefault(sample.canvas, []).append(sample)
        for canvas, group in by_canvas.items():
            size = max(1, self.batch_pixels // (canvas[0] * canvas[1]))
            for first in range(0, len(group), size):
                self._reference_features(
                    lanes, group[first : first + size], here=not self.metrics.concurrent
                )

    def _reference_features(
        self, lanes: WorkerPool, samples: Sequence[Sample], here: bool
    ) -> list[_ReferenceFeatures]:
        """Finds what is kept of samples' references; begins to compute, in one batch, what is not."""
        known = {key for key, prepared in self._references.items() if not prepared.broken}
        missing = {sample.key: sample for sample in samples if sample.key not in known}
        if missing:
            stack = torch.stack([_reference(sample) for sample in missing.values()])
            future = lanes.submit(partial(self.metrics.features, stack), here)
            for row, key in enumerate(missing):
                self._references[key] = _ReferenceFeatures(future, row)
        found = [self._references[sample.key] for sample in samples]
        for sample in samples:
            self._references.move_to_end(sample.key)
        while len(self._references) > _MAX_CACHED_REFERENCES:
            self._references.popitem(last=False)
        return found

    def _check_references(self, samples: Sequence[Sample]) -> None:
        if self.metrics.needs_reference and any(sample.reference is None for sample in samples):
            raise MetricError(
                f"the reward {self.reward.name!r} compares with a clean image, and a sample has none: "
                "use a source with references, or reward='label_free'."
            )


def _reference(sample: Sample) -> Tensor:
    assert sample.reference is not None
    return quantise(sample.reference)
