"""Experience of orders: which of two degradations should be restored first, fitted on training images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from opera_env.data import SyntheticSource
from opera_env.errors import AgentError, MissingWeightsError, SampleError, ToolboxError
from opera_env.evaluation.partial import PartialResults
from opera_env.files import atomic_write
from opera_env.json_files import read_object
from opera_env.scoring import PlanScorer
from opera_env.search import plan_rewards
from opera_env.tools import Toolbox
from opera_env.types import Sample

FIT_COMMAND = "opera-env fit-experience --images DIR --out FILE"

Pair = tuple[str, str]


@dataclass(frozen=True)
class OrderExperience:
    """How much is gained on average by restoring one degradation before another.

    Attributes:
        labels: All degradations, in the order in which recipes apply them. Where nothing was fitted, the
            one that was applied last is restored first.
        gains: Mean reward with the first degradation of a pair restored first, less that with the second
            one first. Each pair of names has one entry, in the order of ``labels``.
        toolbox: Signature and fingerprint of the toolbox.
        reward: Name of the reward.
        images: What it was fitted on, see :func:`opera_env.runs.identify_images`, or the name of a source.
        samples: Number of samples of each pair.

    Example:
        >>> experience = OrderExperience(("rain", "blur", "noise"), {("rain", "noise"): 0.5})
        >>> experience.schedule(["rain", "noise", "blur"])
        ['rain', 'noise', 'blur']
    """

    labels: tuple[str, ...]
    gains: Mapping[Pair, float]
    toolbox: Mapping[str, str] | None = None
    reward: str = ""
    images: str = ""
    samples: int = 0

    def gain(self, first: str, second: str) -> float:
        """Returns what is gained by restoring ``first`` before ``second``; 0 if it was not fitted."""
        if (first, second) in self.gains:
            return self.gains[first, second]
        return -self.gains.get((second, first), 0.0)

    def schedule(self, degradations: Iterable[str]) -> list[str]:
        """Returns degradations in the order in which they are restored.

        The next is always the one that gains most by coming before all that remain. Of equal ones, the one
        that was applied last comes first.
        """
        remaining = sorted(degradations, key=self._place)
        order: list[str] = []
        while remaining:
            gains = {name: sum(self.gain(name, other) for other in remaining) for name in remaining}
            order.append(max(remaining, key=gains.__getitem__))
            remaining.remove(order[-1])
        return order

    def _place(self, name: str) -> int:
        return -self.labels.index(name) if name in self.labels else 1

    def write(self, path: Path) -> None:
        """Writes the experience as JSON, atomically."""
        data = {
            "labels": self.labels,
            "gains": {f"{first}+{second}": gain for (first, second), gain in self.gains.items()},
            "toolbox": self.toolbox,
            "reward": self.reward,
            "images": self.images,
            "samples": self.samples,
        }
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(data, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> OrderExperience:
        """Reads the file that :meth:`write` wrote.

        Raises:
            MissingWeightsError: If there is no such file.
            AgentError: If the file holds something else.
        """
        if not path.is_file():
            raise MissingWeightsError("the experience of orders", path, FIT_COMMAND)
        data = read_object(path, AgentError, f"Fit it again: {FIT_COMMAND}.")
        gains, toolbox = data.object("gains"), data.object("toolbox")
        pairs = {tuple(key.split("+")): gains.number(key) for key in gains.data}
        if any(len(pair) != 2 for pair in pairs):
            gains.fail("expected pairs of degradations such as 'rain+noise'")
        return cls(
            labels=data.names("labels"),
            gains={(first, second): gain for (first, second), gain in pairs.items()},
            toolbox={key: toolbox.text(key) for key in ("signature", "fingerprint")},
            reward=data.text("reward"),
            images=data.text("images"),
            samples=data.integer("samples", 1, 10**9),
        )


def fit_experience(
    source: SyntheticSource,
    scorer: PlanScorer,
    samples_per_pair: int = 4,
    seed: int = 0,
    images: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
    partial: PartialResults | None = None,
) -> OrderExperience:
    """Fits the experience: for each two degradations, both orders of all their tools on some samples.

    Args:
        source: Makes the samples; each has the two degradations and no others.
        scorer: Runs and scores the plans.
        samples_per_pair: Number of samples of each pair.
        seed: Seed of the samples.
        images: What the samples are made of, for the file.
        progress: Called with the number of pairs that are fitted, and of all pairs.
        partial: Keeps each pair as soon as it is fitted. Those that it has are not fitted again.

    Raises:
        ToolboxError: If the toolbox has no tools for two different degradations.
        SampleError: If the source cannot make such samples.
    """
    toolbox, labels = scorer.toolbox, tuple(source.degradations)
    pairs = list(tool_orders(toolbox, labels))
    if not pairs:
        raise ToolboxError(
            f"expected tools for at least two of {', '.join(labels)}, found none in "
            f"{', '.join(toolbox.names)}: choose another toolbox."
        )
    gains: dict[Pair, float] = {}
    for number, (pair, orders) in enumerate(pairs):
        key = "+".join(pair)
        known = None if partial is None else partial.get(key)
        if known is None:
            samples = _draw_samples(source, pair, samples_per_pair, seed)
            known = round(_mean_gain(samples, orders, scorer), 6)
            if partial is not None:
                partial.save(key, known)
        gains[pair] = known
        progress(number + 1, len(pairs))
    return OrderExperience(
        labels=labels,
        gains=gains,
        toolbox={"signature": toolbox.signature, "fingerprint": toolbox.fingerprint},
        reward=scorer.reward.name,
        images=images,
        samples=samples_per_pair,
    )


def tool_orders(toolbox: Toolbox, labels: Sequence[str]) -> Iterator[tuple[Pair, list[Pair]]]:
    """Yields each pair of degradations that tools are for, with all pairs of different tools for them."""
    for pair in combinations(labels, 2):
        first, second = ([tool.name for tool in toolbox if name in tool.degradations] for name in pair)
        if orders := [(a, b) for a in first for b in second if a != b]:
            yield pair, orders


def _draw_samples(source: SyntheticSource, pair: Pair, count: int, seed: int) -> list[Sample]:
    """Draws samples with two degradations, in all orders in which recipes may apply them."""
    recipes = [recipe for recipe in source.recipes if set(recipe) == set(pair)]
    if not recipes:
        raise SampleError(
            f"expected recipes of {' and '.join(pair)} alone in {source.name}, found none: leave the "
            "recipes of the source as they are by default."
        )
    rng = np.random.default_rng((seed, *map(source.degradations.index, pair)))
    return [source.make(spec) for spec in source.list_specs(count, recipes, rng)]


def _mean_gain(samples: Sequence[Sample], orders: Sequence[Pair], scorer: PlanScorer) -> float:
    """Returns the mean reward of all plans less that of the reversed plans."""
    gains: list[float] = []
    for sample in samples:  # one image at a time: its plans share their first tools
        plans = [*orders, *((b, a) for a, b in orders)]
        rewards = plan_rewards([sample] * len(plans), plans, scorer)
        gains += np.subtract(rewards[: len(orders)], rewards[len(orders) :]).tolist()
    return float(np.mean(gains))
