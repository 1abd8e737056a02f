"""The contract between the world and whoever plays it.

A plan goes in, an outcome comes out. Everything else in the package is built
from these few types, and anybody's agent only needs these.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from opera_env.errors import PlanParseError, SampleError

Plan: TypeAlias = tuple[str, ...]
"""Names of tools in the order they are applied; ``()`` leaves the image alone."""

Canvas: TypeAlias = tuple[int, int]
"""Height and width, in pixels, at which an image is seen and judged."""


@dataclass(frozen=True)
class Decision:
    """What an agent says about one image.

    Attributes:
        plan: The tools to apply, in order.
        degradations: The set the agent believes is present; None if it does not say.
        reasoning: Why, in words, if the agent has words.
        error: Why the agent's answer could not be read; the plan is then ``()`` but
            must not be taken for a wish to do nothing.
        probabilities: Probability of each degradation that the agent knows, in [0, 1]; None for
            an agent that has no such estimate. Two decisions are equal whatever they are.
    """

    plan: Plan
    degradations: frozenset[str] | None = None
    reasoning: str | None = None
    error: PlanParseError | None = None
    probabilities: Mapping[str, float] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Observation:
    """What an agent sees. No reference and no labels are in it.

    Attributes:
        image: The image as it is now, float32 (3, H, W) in [0, 1], at canvas size.
        original: The image before the first tool, same shape and range.
        used: The tools applied so far.
        steps_left: How many more tools may be applied.
    """

    image: Tensor
    original: Tensor
    used: Plan = ()
    steps_left: int = 6


@dataclass(frozen=True)
class SampleSpec:
    """All that is needed to make a sample again, bit by bit, on any worker.

    Attributes:
        source: Name of the source that drew it.
        index: Which of the source's images.
        recipe: Degradations in the order they are applied (synthesis) or are known to
            have been applied (benchmark folders); empty where nothing is known.
        seed: Seed of the generator that degrades the image.
        crop: ``(top, left, height, width)`` in the coordinates of the canvas, or None
            for the whole image.
    """

    source: str
    index: int
    recipe: tuple[str, ...] = ()
    seed: int = 0
    crop: tuple[int, int, int, int] | None = None

    @property
    def source_image(self) -> tuple[str, int]:
        """Source and index of the image: samples made of one image are not independent."""
        return self.source, self.index

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types; :meth:`from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SampleSpec:
        """Reads what :meth:`to_json` wrote.

        Example:
            >>> spec = SampleSpec("bundled", 2, ("rain", "noise"), seed=7, crop=(0, 8, 128, 128))
            >>> SampleSpec.from_json(spec.to_json()) == spec
            True
        """
        try:
            crop, recipe = data.get("crop"), data.get("recipe", ())
            if isinstance(recipe, str) or not all(isinstance(name, str) for name in recipe):
                raise TypeError("recipe is no list of names")
            if crop is not None:
                top, left, height, width = (operator.index(value) for value in crop)
                crop = (top, left, height, width)
            return cls(
                source=str(data["source"]),
                index=operator.index(data["index"]),
                recipe=tuple(recipe),
                seed=operator.index(data.get("seed", 0)),
                crop=crop,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SampleError(
                f"not a sample specification: {data!r} ({error!r}); expected the keys source, "
                "index, recipe, seed and crop, as SampleSpec.to_json() writes them."
            ) from error


@dataclass(frozen=True, eq=False)
class Sample:
    """The world's secret: a degraded image and what is known about it.

    Attributes:
        lq: The degraded image, float32 (3, h, w) in [0, 1].
        reference: The image before degradation, float32 (3, H, W) in [0, 1], or None.
        degradations: What was applied to it; None where nobody knows.
        canvas: (H, W) at which results are judged. The reference's size where there is one.
        spec: How to make this sample again.
        depth: Where the depth of a hazy sample came from, "file" or "procedural"; None
            if the recipe has no haze or the haze was not made here.
    """

    lq: Tensor
    reference: Tensor | None
    degradations: frozenset[str] | None
    canvas: Canvas
    spec: SampleSpec
    depth: str | None = None

    def __post_init__(self) -> None:
        if self.reference is not None and tuple(self.reference.shape[-2:]) != self.canvas:
            raise SampleError(
                f"the canvas {self.canvas} must be the size of the reference, "
                f"{tuple(self.reference.shape[-2:])}."
            )

    def blind(self) -> Sample:
        """Returns the same sample without reference and labels: what a user's photograph is."""
        spec = replace(self.spec, recipe=())
        return replace(self, reference=None, degradations=None, spec=spec, depth=None)

    @cached_property
    def key(self) -> str:
        """Digest of images and canvas: equal samples share work and cached results."""
        digest = hashlib.sha256(repr((tuple(self.lq.shape), self.canvas)).encode())  # processors help
        digest.update(self.lq.contiguous().numpy().reshape(-1).data)
        if self.reference is not None:
            digest.update(self.reference.contiguous().numpy().reshape(-1).data)
        return digest.hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one plan on one sample.

    Attributes:
        restored: The result at canvas size, uint8 (3, H, W), exactly as the metrics
            judged it; None if the caller asked not to keep images.
        metrics: Raw metric values by name; a failed metric holds its failure value.
        terms: Contribution of each metric to ``r_q``.
        r_q: Restoration quality, the paper's R_q; higher is better.
        tools_run: Number of tools in the plan.
    """

    restored: Tensor | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    r_q: float = 0.0
    tools_run: int = 0

    def image(self) -> Tensor:
        """Returns the restored image as float32 (3, H, W) in [0, 1].

        Raises:
            ValueError: If the images were not kept.
        """
        if self.restored is None:
            raise ValueError("this outcome holds no image: score with restored=True to keep them.")
        return self.restored.to(torch.float32) / 255


class Scorer(Protocol):
    """What a search may ask of the world; :class:`opera_env.scoring.PlanScorer` is one."""

    @property
    def tool_names(self) -> tuple[str, ...]: ...

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]: ...


@runtime_checkable
class Agent(Protocol):
    """Looks at images and decides.

    An open-loop agent (``closed_loop = False``) writes the whole plan at once. A
    closed-loop agent is shown the image again after the tools it chose, until it
    answers with the empty plan or the steps run out.
    """

    closed_loop: bool

    def act(self, observations: Sequence[Observation]) -> list[Decision]: ...


@runtime_checkable
class Search(Protocol):
    """Finds plans by trying them.

    An oracle where the samples carry references; blind on ``sample.blind()`` with a
    label-free scorer.
    """

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]: ...


@runtime_checkable
class DecidingSearch(Search, Protocol):
    """A search that returns whole decisions: with the plans, what it estimates of the images."""

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]: ...
