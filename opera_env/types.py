"""The types that environments, scorers and agents exchange, and the protocols of agents.

An agent receives observations and returns decisions. A scorer turns samples and plans into outcomes. An
agent of your own needs no other module.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from opera_env.errors import PlanParseError, SampleError

Plan: TypeAlias = tuple[str, ...]
"""Names of tools in the order of their application; ``()`` leaves the image unchanged."""

Canvas: TypeAlias = tuple[int, int]
"""Height and width, in pixels, at which an image is observed and scored."""


@dataclass(frozen=True)
class TokenCount:
    """Numbers of tokens that a language model has read and written.

    Attributes:
        prompt: Tokens of the prompts, those of images included.
        completion: Tokens of the answers.
    """

    prompt: int
    completion: int


def sum_tokens(counts: Iterable[TokenCount | None]) -> TokenCount | None:
    """Returns the sum of the counts that are known; None if none is.

    Example:
        >>> sum_tokens([TokenCount(90, 10), None, TokenCount(100, 5)])
        TokenCount(prompt=190, completion=15)
    """
    known = [count for count in counts if count is not None]
    if not known:
        return None
    return TokenCount(sum(count.prompt for count in known), sum(count.completion for count in known))


@dataclass(frozen=True)
class Decision:
    """The decision of an agent for one image.

    Attributes:
        plan: The tools to apply, in order.
        degradations: The degradations that the agent predicts; None if it makes no prediction.
        reasoning: The agent's reasoning in words; None if it gives none.
        error: The reason why the agent's answer could not be parsed; None if it could. The plan is then
            ``()``, which does not mean that the agent chose the empty plan.
        probabilities: Probability of each degradation that the agent knows, in [0, 1]; None if the agent
            does not estimate them. They are ignored when decisions are compared.
        undo: Number of tools at the end of the plan so far that a closed-loop agent takes back, before the
            tools of ``plan`` are applied.
        finish: Whether a closed-loop agent ends the episode without observing the result of ``plan``. The
            empty plan without ``undo`` ends it in any case.
        tokens: What the decision has cost a language model, repeated requests included; None if that is not
            known. It is ignored when decisions are compared.
    """

    plan: Plan
    degradations: frozenset[str] | None = None
    reasoning: str | None = None
    error: PlanParseError | None = None
    probabilities: Mapping[str, float] | None = field(default=None, compare=False)
    undo: int = 0
    finish: bool = False
    tokens: TokenCount | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class Turn:
    """An earlier turn of an episode.

    Attributes:
        image: The image that the agent observed, float32 (3, H, W) in [0, 1].
        decision: Its decision.
    """

    image: Tensor
    decision: Decision


@dataclass(frozen=True)
class Observation:
    """The observation of an agent. It contains neither the reference nor the labels.

    Attributes:
        image: The current image at canvas size, float32 (3, H, W) in [0, 1].
        original: The image before the first tool, with the same shape and range.
        used: The tools applied so far.
        steps_left: Number of tools that may still be applied.
        input_size: Height and width, in pixels, of the input image, before it was resized to the canvas for
            ``original``. Tools that upscale enlarge an image that is smaller than its canvas only. None
            stands for the size of ``original``.
        history: The earlier turns of the episode, for agents with the attribute ``uses_history``.
    """

    image: Tensor
    original: Tensor
    used: Plan = ()
    steps_left: int = 6
    input_size: Canvas | None = None
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class SampleSpec:
    """The specification of a sample: its source makes the same sample from it again, bit by bit.

    Attributes:
        source: Name of the source that drew the sample.
        index: Index of the image in the source.
        recipe: Names of degradations in the order of their application; empty where they are not known.
        seed: Seed of the random generator that degrades the image.
        crop: ``(top, left, height, width)`` in pixels of the canvas; None for the whole image.
        image: Name of the image in the source. With it, ``index`` is only where the image was when the
            sample was drawn. Empty in specifications that are written by hand; the index then decides.
        sha256: Digest of the content from which the sample is made, 64 hexadecimal digits: the pixels of
            the image, of its reference if that is a file, and its depth map if the recipe uses one. A
            source makes the sample from nothing else. Empty if any content will do.
    """

    source: str
    index: int
    recipe: tuple[str, ...] = ()
    seed: int = 0
    crop: tuple[int, int, int, int] | None = None
    image: str = ""
    sha256: str = ""

    @property
    def source_image(self) -> tuple[str, str | int]:
        """Source and name of the image, or its index. Samples of the same image are not independent."""
        return self.source, self.image or self.index

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types; :meth:`from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SampleSpec:
        """Returns the specification that :meth:`to_json` has written.

        Args:
            data: The dictionary; all keys but ``source`` and ``index`` may be absent.

        Raises:
            SampleError: If a key is absent or unknown, or a value has the wrong type.

        Example:
            >>> spec = SampleSpec("bundled", 2, ("rain", "noise"), seed=7, crop=(0, 8, 128, 128))
            >>> SampleSpec.from_json(spec.to_json()) == spec
            True
        """
        try:
            if unknown := [key for key in data if key not in cls.__dataclass_fields__]:
                raise TypeError(f"unknown key {unknown[0]!r}")
            crop, recipe = data.get("crop"), data.get("recipe", ())
            if isinstance(recipe, str) or not all(isinstance(name, str) for name in recipe):
                raise TypeError("recipe is not a list of names")
            if crop is not None:
                top, left, height, width = (operator.index(value) for value in crop)
                crop = (top, left, height, width)
            seed = operator.index(data.get("seed", 0))
            if seed < 0:
                raise ValueError(f"negative seed {seed}")
            image, sha256 = data.get("image", ""), data.get("sha256", "")
            if not isinstance(image, str) or not re.fullmatch("([0-9a-f]{64})?", sha256):
                raise TypeError("image is not a name, or sha256 is not 64 hexadecimal digits")
            return cls(
                source=str(data["source"]),
                index=operator.index(data["index"]),
                recipe=tuple(recipe),
                seed=seed,
                crop=crop,
                image=image,
                sha256=sha256,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SampleError(
                f"not a sample specification: {data!r} ({error!r}); expected the keys source, "
                "index, recipe, seed, crop, image and sha256, as SampleSpec.to_json() writes them."
            ) from error


@dataclass(frozen=True, eq=False)
class Sample:
    """A degraded image with its reference and labels, which agents do not observe.

    Attributes:
        lq: The degraded image, float32 (3, h, w) in [0, 1].
        reference: The image before degradation, float32 (3, H, W) in [0, 1]; None if there is none.
        degradations: Names of the degradations of the image, as the source calls them; None where they are
            not known.
        canvas: (H, W) at which results are scored. It is the size of the reference, if there is one.
        spec: The specification from which the source makes this sample again.
        depth: Origin of the depth map of synthetic haze, "file" or "procedural"; None if the sample has no
            synthetic haze.

    Raises:
        SampleError: If an image or the labels have another type, shape or range, or the canvas is not the
            size of the reference.
    """

    lq: Tensor
    reference: Tensor | None
    degradations: frozenset[str] | None
    canvas: Canvas
    spec: SampleSpec
    depth: str | None = None

    def __post_init__(self) -> None:
        _check_image("lq", self.lq)
        if self.reference is not None:
            _check_image("reference", self.reference)
        labels: object = self.degradations
        if labels is not None and not isinstance(labels, frozenset | set):
            raise SampleError(f"expected a set of names as the degradations of a sample, found {labels!r}.")
        if self.reference is not None and tuple(self.reference.shape[-2:]) != self.canvas:
            raise SampleError(
                f"expected a canvas of the size of the reference, {tuple(self.reference.shape[-2:])}, "
                f"found {self.canvas}."
            )

    def blind(self) -> Sample:
        """Returns the sample without reference and labels, like the photograph of a user."""
        spec = replace(self.spec, recipe=())
        return replace(self, reference=None, degradations=None, spec=spec, depth=None)

    @property
    def size(self) -> Canvas:
        """Height and width of the degraded image, in pixels."""
        return self.lq.shape[-2], self.lq.shape[-1]

    @cached_property
    def key(self) -> str:
        """Digest of the images and the canvas. Samples with equal keys share work and cached results."""
        digest = hashlib.sha256(repr((tuple(self.lq.shape), self.canvas)).encode())
        digest.update(self.lq.contiguous().numpy().reshape(-1).data)
        if self.reference is not None:
            digest.update(self.reference.contiguous().numpy().reshape(-1).data)
        return digest.hexdigest()[:32]


def _check_image(name: str, image: object) -> None:
    """Raises :class:`SampleError` if an image of a sample is not what :class:`Sample` says."""
    if not isinstance(image, Tensor):
        found = type(image).__name__
    elif image.dtype != torch.float32 or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        found = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
    else:
        low, high = (bound.item() for bound in image.aminmax())
        if low >= 0 and high <= 1:  # false for NaN
            return
        found = f"values in [{low:g}, {high:g}]"
    raise SampleError(f"expected {name} of a sample as float32 (3, H, W) in [0, 1], found {found}.")


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of one plan on one sample.

    Attributes:
        restored: The restored image at canvas size, uint8 (3, H, W), exactly as it was scored; None if the
            scorer was called with ``restored=False``.
        metrics: Metric values by name. A value that is not finite is replaced by the metric's worst value.
        terms: Contribution of each metric to ``r_q``, by the name of the metric.
        r_q: Restoration quality, the paper's R_q; higher is better.
        num_tools: Number of tools in the plan.
    """

    restored: Tensor | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    r_q: float = 0.0
    num_tools: int = 0

    def image(self) -> Tensor:
        """Returns the restored image as float32 (3, H, W) in [0, 1].

        Raises:
            ValueError: If the outcome was scored with ``restored=False``.
        """
        if self.restored is None:
            raise ValueError("this outcome has no image: call score(..., restored=True) to keep images.")
        return self.restored.to(torch.float32) / 255


class Scorer(Protocol):
    """Scores plans for a search; implemented by :class:`opera_env.scoring.PlanScorer`."""

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        ...

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Returns the outcome of one plan per sample; see :meth:`opera_env.scoring.PlanScorer.score`."""
        ...


@runtime_checkable
class Agent(Protocol):
    """Makes decisions from observations.

    Attributes:
        closed_loop: Whether the agent observes the image again after the tools that it chose, until it
            returns the empty plan or no steps are left. An open-loop agent writes the whole plan at once.

    A closed-loop agent may have the attribute ``uses_history`` besides: if it is true, its observations
    have the earlier turns of the episode.
    """

    closed_loop: bool

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        """Returns one decision per observation, in the same order."""
        ...


@runtime_checkable
class Search(Protocol):
    """Finds plans by scoring many of them.

    With samples that have references it is an oracle. It is blind on ``sample.blind()`` with a scorer whose
    reward needs no reference.
    """

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        """Returns one plan per sample, in the same order; ``scorer`` scores the plans that are tried."""
        ...


@runtime_checkable
class CountingSearch(Search, Protocol):
    """A search that knows how many plans it scores."""

    def count_plans(self, num_tools: int) -> int:
        """Returns the most plans that are scored for one sample, with a toolbox of so many tools."""
        ...


@runtime_checkable
class DecidingSearch(Search, Protocol):
    """A search that returns decisions: plans and its predictions of the degradations."""

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        """Returns one decision per sample, in the same order."""
        ...
