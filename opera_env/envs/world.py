"""What one-shot, stepwise and vector environments have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from opera_env.data import Source, open_source
from opera_env.data.images import to_array, to_pil
from opera_env.errors import SampleError, ToolboxMismatchError
from opera_env.execution import PrefixCache
from opera_env.plan import PlanCodec
from opera_env.reward import Reward
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox, resize
from opera_env.types import Observation, Outcome, Plan, Sample, SampleSpec

Obs = TypeVar("Obs")
Info = dict[str, Any]


@dataclass(frozen=True)
class WorldConfig:
    """Constructor arguments of every environment.

    Attributes:
        toolbox: A toolbox to share, the name of a shipped one, or a folder.
        reward: A preset by name, or a reward of one's own.
        source: Where samples come from: a source, a folder of clean photographs, or None
            for the bundled photographs.
        max_tools: Longest plan.
        obs_size: Side of the square uint8 observation in pixels.
        canvas: Side of the crops that the default source cuts, a multiple of 4; None for whole images.
            A source that is given brings its own.
        tool_cost: Taken from the reward per tool applied.
        device: Where tools and metrics run; "auto" takes a GPU if there is one.
    """

    toolbox: Toolbox | str = "lite"
    reward: Reward | str = "lite"
    source: Source | str | None = None
    max_tools: int = 6
    obs_size: int = 128
    canvas: int | None = 128
    tool_cost: float = 0.0
    device: str = "auto"


@dataclass
class Episode:
    """One image on its way through an environment.

    Attributes:
        sample: The image and its secrets.
        plan: The tools applied so far.
        outcome: What they led to; None before anything was judged.
        done: Whether the episode has ended.
        original: The Gymnasium observation of the image before the first tool, once it was made.
    """

    sample: Sample
    plan: Plan = ()
    outcome: Outcome | None = None
    done: bool = False
    original: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Transition(Generic[Obs]):
    """What an environment answers to one action of one episode."""

    observation: Obs
    reward: float
    terminated: bool
    info: Info


class Rules(ABC, Generic[Obs]):
    """The rules of a game over a world, for any number of episodes at once.

    A single environment plays one episode, a vector environment many; both by the same
    rules and through the same scorer.

    Args:
        config: The world.

    Attributes:
        toolbox: The tools, shared with whoever handed them in.
        scorer: Turns plans into outcomes.
        source: Draws and makes samples.
        codec: Translates actions.
    """

    config_class: type[WorldConfig] = WorldConfig
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        if isinstance(config.toolbox, Toolbox):
            self.toolbox = config.toolbox
        else:
            device = config.device
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            self.toolbox = Toolbox.load(config.toolbox, device)
        if config.max_tools < 1 or len(self.toolbox) == 0:
            raise ToolboxMismatchError("an environment needs a tool at least, and max_tools of at least 1.")
        self.source = open_source(config.source, config.canvas)
        self.codec = PlanCodec(self.toolbox.names, config.max_tools)
        self.scorer = PlanScorer(self.toolbox, config.reward, cache=self._cache())

    def _cache(self) -> PrefixCache | None:
        return None

    @abstractmethod
    def begin(self, samples: Sequence[Sample]) -> list[tuple[Episode, Obs, Info]]:
        """Starts episodes, one per sample."""

    @abstractmethod
    def _advance(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[Obs]]: ...

    @abstractmethod
    def ends(self, episode: Episode, action: Any) -> bool:
        """Whether this action ends the episode, which nothing but the action decides."""

    def check(self, episodes: Sequence[Episode]) -> None:
        """Refuses to play on where that makes no sense.

        Raises:
            ResetNeeded: If an episode has ended.
            ToolboxMismatchError: If tools were added to the toolbox meanwhile.
        """
        if any(episode.done for episode in episodes):
            raise ResetNeeded("the episode has ended: call reset() before step().")
        if self.toolbox.names != self.codec.names:
            raise ToolboxMismatchError(
                f"the environment was made for {len(self.codec.names)} tools and the toolbox now has "
                f"{len(self.toolbox)}: make a new environment after toolbox.add(...)."
            )

    def advance(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[Obs]]:
        """Plays one action in each episode.

        Raises:
            ResetNeeded: If an episode has ended.
            PlanParseError: If an action lies outside the action space.
            ToolboxMismatchError: If tools were added to the toolbox meanwhile.
        """
        self.check(episodes)
        return self._advance(episodes, actions)

    def sample(self, rng: Generator, options: dict[str, Any] | None) -> Sample:
        """Draws a sample, or makes the one that ``options["sample"]`` specifies."""
        spec = (options or {}).get("sample")
        if spec is None:
            spec = self.source.draw(rng)
        if isinstance(spec, dict):
            spec = SampleSpec.from_json(spec)
        if isinstance(spec, Sample):
            return spec
        if not isinstance(spec, SampleSpec):
            raise SampleError(f"options['sample'] must be a SampleSpec or its JSON, found {spec!r}.")
        return self.source.make(spec)

    def info(self, episode: Episode) -> Info:
        """Returns what an episode tells about itself; secrets included, images as PIL."""
        sample = episode.sample
        labels = () if sample.degradations is None else tuple(sorted(sample.degradations))
        info: Info = {"plan": episode.plan, "degradations": labels, "sample": sample.spec.to_json()}
        if episode.outcome is not None:
            info |= {
                "metrics": dict(episode.outcome.metrics),
                "terms": dict(episode.outcome.terms),
                "r_q": episode.outcome.r_q,
                "restored": restored_pil(episode.outcome),
            }
        return info

    def frames(self, episode: Episode) -> list[tuple[str, Image.Image]]:
        """Returns captioned pictures: the input, each tool's result, the reference."""
        sample = episode.sample
        prefixes = [episode.plan[:length] for length in range(len(episode.plan) + 1)]
        results = {
            result.plan: to_pil(resize(result.image[None], sample.canvas)[0].clamp(0, 1))
            for result in self.scorer.executor.run([sample] * len(prefixes), prefixes)
        }
        recipe = " > ".join(sample.spec.recipe)
        pictures = [(f"input {recipe}", results[()])]
        pictures += [(prefix[-1], results[prefix]) for prefix in prefixes[1:]]
        if sample.reference is not None:
            pictures.append(("reference", to_pil(sample.reference)))
        return pictures


class HasToolbox:
    """What an environment offers to whoever trains its tools, in this process or another.

    Attributes:
        rules: Of the game it plays.
    """

    rules: Rules[Any]

    @property
    def toolbox(self) -> Toolbox:
        """The tools of this world; training them in place changes it."""
        return self.rules.toolbox

    def load_toolbox(self, folder: Path | str) -> str:
        """Takes over the tools' weights from a folder written by Toolbox.save; returns their fingerprint.

        For copies of a world in other processes: ``envs.call("load_toolbox", folder)``.
        """
        return self.toolbox.load_weights(folder).fingerprint

    def check_toolbox(self, fingerprint: str) -> None:
        """Refuses to go on with tools that have been trained elsewhere meanwhile.

        Raises:
            ToolboxMismatchError: If these are not the tools of that fingerprint.
        """
        if self.toolbox.fingerprint != fingerprint:
            raise ToolboxMismatchError(
                f"expected tools of fingerprint {fingerprint}, this environment has "
                f"{self.toolbox.fingerprint}: a stale copy. Save the trained toolbox and call "
                "load_toolbox(folder) here."
            )


def observe(episode: Episode, max_tools: int) -> Observation:
    """Returns what an agent may see of an episode: images at canvas size, no secrets."""
    sample = episode.sample
    original = resize(sample.lq[None], sample.canvas)[0].clamp(0, 1)
    image = original
    if episode.outcome is not None and episode.outcome.restored is not None and episode.plan:
        image = episode.outcome.image()
    return Observation(image, original, episode.plan, max_tools - len(episode.plan))


def to_gym(image: torch.Tensor, obs_size: int) -> NDArray[np.uint8]:
    """Turns an image of an observation into a Gymnasium observation.

    Args:
        image: float32 (3, H, W) in [0, 1].
        obs_size: Side of the square result.

    Returns:
        A fresh uint8 array (obs_size, obs_size, 3).
    """
    return np.ascontiguousarray(to_array(resize(image[None], (obs_size, obs_size))[0]))


def look(episode: Episode, obs_size: int) -> NDArray[np.uint8]:
    """Returns the Gymnasium observation of an episode's image as it is now.

    The same as ``to_gym(observe(episode).image)``; what is 8-bit and of the right size already does not
    go through floating point again.
    """
    restored = episode.outcome.restored if episode.outcome is not None and episode.plan else None
    if restored is None:
        return look_at_original(episode, obs_size)
    if restored.shape[-2:] == (obs_size, obs_size):
        return np.array(to_array(restored), order="C")
    return to_gym(restored.to(torch.float32) / 255, obs_size)


def look_at_original(episode: Episode, obs_size: int) -> NDArray[np.uint8]:
    """Returns the Gymnasium observation of an episode's image before the first tool, a fresh copy."""
    if episode.original is None:
        episode.original = to_gym(observe(Episode(episode.sample), 0).original, obs_size)
    return episode.original.copy()


def restored_pil(outcome: Outcome) -> Image.Image:
    """Returns the restored image as a picture: images of any size travel in one info array."""
    assert outcome.restored is not None
    return to_pil(outcome.restored)
