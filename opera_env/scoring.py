"""The one place where a plan becomes a score: :meth:`PlanScorer.score`.

Tools run (:mod:`opera_env.execution`), the results are resized to the canvas and rounded to 8 bits, metrics
measure them (:mod:`opera_env.metrics`), and the reward weights the metrics and sums them to R_q
(:mod:`opera_env.reward`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

import torch
from torch import Tensor

from opera_env.data.images import quantise, resize
from opera_env.errors import MetricError
from opera_env.execution import ExecutionResult, Executor, PrefixCache, WorkerPool
from opera_env.execution.batching import batch_by_canvas, count_workers
from opera_env.metrics import MetricSuite
from opera_env.metrics.reference_cache import ReferenceCache, ReferenceFeatures
from opera_env.reward import Reward, get_reward
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample

_ScoredPlans = dict[tuple[str, Plan], Outcome]
"""Outcomes by the key of the sample and the plan."""


class PlanScorer:
    """Runs plans and scores the results: execution, metrics and R_q.

    Environments, searches, comparisons and the reward functions of trainers all call :meth:`score`, so
    they agree on the score of a plan.

    Args:
        toolbox: The tools.
        reward: The name of a preset, or a reward of your own.
        batch_size: Results that are scored together, counted in images of 128 x 128 pixels.
        cache: Keeps restored images between calls. Use one for closed-loop agents and for searches that
            extend earlier plans.

    Attributes:
        metrics: The metrics of the reward.
        executor: Runs the plans.
        images_scored: Number of distinct results scored so far, in all calls.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        reward: str | Reward = "lite",
        batch_size: int = 16,
        cache: PrefixCache | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.reward = get_reward(reward)
        self.metrics = MetricSuite([term.metric for term in self.reward.terms], toolbox.device)
        self.batch_pixels = batch_size * 128 * 128
        # Tools need more memory than metrics. On a CPU, the activations of half a batch fit its caches.
        divisor = 2 if toolbox.device.type == "cpu" else 1
        self.executor = Executor(toolbox, self.batch_pixels // divisor, cache=cache)
        self.images_scored = 0
        self._references = ReferenceCache(self.metrics, self.batch_pixels)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        return self.toolbox.names

    @property
    def tools_run(self) -> int:
        """Number of tool applications so far, in all calls."""
        return self.executor.tools_run

    def clear_caches(self) -> None:
        """Forgets the images and the features of references that were kept between calls."""
        self._references.clear()
        if self.executor.cache is not None:
            self.executor.cache.clear()

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Runs one plan per sample and scores the results.

        Equal plans on equal images are run and scored once. Plans with a common prefix on equal images run
        the prefix once.

        Args:
            samples: One per plan; repeat a sample to score several plans on it.
            plans: Names of tools in the order of application; ``()`` scores the input image.
            restored: Whether the outcomes keep the restored images. Searches do not need them.

        Returns:
            One outcome per plan, in the same order.

        Raises:
            ValueError: If the numbers of samples and plans differ.
            UnknownToolError: If a plan names a tool that the toolbox does not have.
            ToolFailedError: If a tool raises, or returns a wrong shape, NaN or infinity.
            MetricError: If the reward needs a reference and a sample has none, or if an image is too small
                for a metric.
        """
        _check_count(samples, plans)
        self._require_references(samples)
        num_workers = self._num_workers(samples)
        with WorkerPool(num_workers) as pool:
            if self.metrics.needs_reference:
                self._references.prefetch(samples, pool)
            results = self.executor.run(samples, plans, pool)
            batches = batch_by_canvas(results, self.batch_pixels, len(samples), num_workers)
            futures = [self._submit(batch, pool, restored) for batch in batches]
            scored: _ScoredPlans = {}
            for future in futures:
                scored.update(future.result())
        return [scored[sample.key, plan] for sample, plan in zip(samples, plans, strict=True)]

    def restore(self, samples: Sequence[Sample], plans: Sequence[Plan]) -> list[Outcome]:
        """Runs one plan per sample without scoring the results.

        Args:
            samples: One per plan.
            plans: Names of tools in the order of application.

        Returns:
            One outcome per plan, with the image that :meth:`score` would return and without metrics.

        Raises:
            ValueError: If the numbers of samples and plans differ.
            UnknownToolError: If a plan names a tool that the toolbox does not have.
            ToolFailedError: If a tool raises, or returns a wrong shape, NaN or infinity.
        """
        _check_count(samples, plans)
        with WorkerPool(self._num_workers(samples)) as pool:
            images = {
                (result.sample.key, result.plan): _scored_images([result])[0].cpu()
                for result in self.executor.run(samples, plans, pool)
            }
        return [
            Outcome(images[sample.key, plan], num_tools=len(plan))
            for sample, plan in zip(samples, plans, strict=True)
        ]

    def _submit(
        self, batch: Sequence[ExecutionResult], pool: WorkerPool, restored: bool
    ) -> Future[_ScoredPlans]:
        """Submits a batch of results of one canvas; metrics that are not concurrent run at once."""
        references: list[ReferenceFeatures] = []
        if self.metrics.needs_reference:
            references = self._references.get([result.sample for result in batch], pool)
        self.images_scored += len(batch)
        work = partial(self._score_batch, batch, references, restored)
        return pool.submit(work, inline=not self.metrics.concurrent)

    def _score_batch(
        self, batch: Sequence[ExecutionResult], references: Sequence[ReferenceFeatures], restored: bool
    ) -> _ScoredPlans:
        """Resizes to the canvas, rounds to 8 bits, measures, weights the terms and sums them to R_q."""
        images = _scored_images(batch)
        rows = self.metrics(images, [reference.result() for reference in references])
        restored_images = images.cpu() if restored else None
        scored: _ScoredPlans = {}
        for row, (metrics, result) in enumerate(zip(rows, batch, strict=True)):
            terms = self.reward.contributions(metrics, result.plan)
            scored[result.sample.key, result.plan] = Outcome(
                restored=None if restored_images is None else restored_images[row].clone(),
                metrics=metrics,
                terms=terms,
                r_q=float(sum(terms.values())),
                num_tools=len(result.plan),
            )
        return scored

    def _num_workers(self, samples: Sequence[Sample]) -> int:
        return count_workers(samples, self.toolbox.device)

    def _require_references(self, samples: Sequence[Sample]) -> None:
        if self.metrics.needs_reference and any(sample.reference is None for sample in samples):
            raise MetricError(
                f"the reward {self.reward.name!r} compares with a reference image, and a sample has none: "
                "use a source with references, or reward='label_free'."
            )


def _scored_images(batch: Sequence[ExecutionResult]) -> Tensor:
    """Returns results of one canvas as they are scored: at canvas size, uint8 (B, 3, H, W)."""
    canvas = batch[0].sample.canvas
    return quantise(torch.cat([resize(result.image[None], canvas) for result in batch]))


def _check_count(samples: Sequence[Sample], plans: Sequence[Plan]) -> None:
    if len(samples) != len(plans):
        raise ValueError(
            f"expected one plan per sample, found {len(samples)} samples and {len(plans)} plans: "
            "repeat a sample to score several plans on it."
        )
