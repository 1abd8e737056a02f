"""The one place where a plan becomes a score."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from opera_env.data.images import quantise
from opera_env.errors import MetricError
from opera_env.execution import Executor, PrefixCache
from opera_env.metrics import Features, MetricSuite
from opera_env.reward import Reward, get_reward
from opera_env.tools import Toolbox, resize
from opera_env.types import Canvas, Outcome, Plan, Sample

_REFERENCES_KEPT = 64
"""References whose features are kept: more than the images of any one training batch."""

_Judgeable = tuple[Sample, Plan, Tensor]
"""A sample, the plan that ran, and the result, uint8 (3, H, W) at canvas size."""


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
        self.executor = Executor(toolbox, batch_pixels=batch * 128 * 128, cache=cache)
        self.batch_pixels = batch * 128 * 128
        self.images_scored = 0
        self._references: OrderedDict[str, tuple[Features, ...]] = OrderedDict()

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
        scored: dict[tuple[str, Plan], Outcome] = {}
        waiting: dict[Canvas, list[_Judgeable]] = {}
        for result in self.executor.run(samples, plans):
            canvas = result.sample.canvas
            image = quantise(resize(result.image[None], canvas))[0]
            group = waiting.setdefault(canvas, [])
            group.append((result.sample, result.plan, image))
            if len(group) * canvas[0] * canvas[1] >= self.batch_pixels:
                scored.update(self._judge(waiting.pop(canvas), restored))
        for group in waiting.values():
            scored.update(self._judge(group, restored))
        return [scored[sample.key, plan] for sample, plan in zip(samples, plans, strict=True)]

    def _judge(self, group: Sequence[_Judgeable], restored: bool) -> dict[tuple[str, Plan], Outcome]:
        """Judges results of one canvas in one batch."""
        images = torch.stack([image for _, _, image in group])
        references: list[tuple[Features, ...]] = []
        if self.metrics.needs_reference:
            references = [self._features(sample) for sample, _, _ in group]
        self.images_scored += len(group)
        kept = images.cpu() if restored else None
        outcomes: dict[tuple[str, Plan], Outcome] = {}
        for row, (values, (sample, plan, _)) in enumerate(
            zip(self.metrics(images, references), group, strict=True)
        ):
            terms = self.reward.contributions(values, plan)
            outcomes[sample.key, plan] = Outcome(
                restored=kept[row].clone() if kept is not None else None,
                metrics=values,
                terms=terms,
                r_q=float(sum(terms.values())),
                tools_run=len(plan),
            )
        return outcomes

    def _features(self, sample: Sample) -> tuple[Features, ...]:
        """Prepares a sample's reference, or finds it among the most recent ones."""
        assert sample.reference is not None
        if sample.key not in self._references:
            self._references[sample.key] = self.metrics.features(quantise(sample.reference))
            if len(self._references) > _REFERENCES_KEPT:
                self._references.popitem(last=False)
        self._references.move_to_end(sample.key)
        return self._references[sample.key]

    def _check_references(self, samples: Sequence[Sample]) -> None:
        if self.metrics.needs_reference and any(sample.reference is None for sample in samples):
            raise MetricError(
                f"the reward {self.reward.name!r} compares with a clean image, and a sample has none: "
                "use a source with references, or reward='label_free'."
            )
