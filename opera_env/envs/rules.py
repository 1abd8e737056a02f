"""The rules of an environment for any number of episodes at once: what single and vector forms share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.random import Generator
from PIL import Image

from opera_env.data import resolve_source
from opera_env.data.images import resize, to_pil
from opera_env.envs.config import EnvConfig
from opera_env.envs.observation import Episode, restored_pil
from opera_env.errors import SampleError, ToolboxMismatchError
from opera_env.execution import PrefixCache
from opera_env.plan import PlanCodec
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.tools.device import resolve_device
from opera_env.types import Sample, SampleSpec

ObsType = TypeVar("ObsType")
Info = dict[str, Any]


@dataclass(frozen=True)
class Transition(Generic[ObsType]):
    """What an environment answers to one action of one episode."""

    observation: ObsType
    reward: float
    terminated: bool
    info: Info


class Rules(ABC, Generic[ObsType]):
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

    config_class: type[EnvConfig] = EnvConfig
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
        if isinstance(config.toolbox, Toolbox):
            self.toolbox = config.toolbox
        else:
            self.toolbox = Toolbox.load(config.toolbox, resolve_device(config.device))
        if config.max_tools < 1 or len(self.toolbox) == 0:
            raise ToolboxMismatchError("an environment needs a tool at least, and max_tools of at least 1.")
        self.source = resolve_source(config.source, config.canvas)
        self.codec = PlanCodec(self.toolbox.names, config.max_tools)
        self.scorer = PlanScorer(self.toolbox, config.reward, cache=self._cache())

    def _cache(self) -> PrefixCache | None:
        return None

    @abstractmethod
    def reset(self, samples: Sequence[Sample]) -> list[tuple[Episode, ObsType, Info]]:
        """Starts episodes, one per sample."""

    @abstractmethod
    def _step(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[ObsType]]: ...

    @abstractmethod
    def terminates(self, episode: Episode, action: Any) -> bool:
        """Whether this action ends the episode, which nothing but the action decides."""

    def check_ready(self, episodes: Sequence[Episode]) -> None:
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

    def step(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[ObsType]]:
        """Plays one action in each episode.

        Raises:
            ResetNeeded: If an episode has ended.
            PlanParseError: If an action lies outside the action space.
            ToolboxMismatchError: If tools were added to the toolbox meanwhile.
        """
        self.check_ready(episodes)
        return self._step(episodes, actions)

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


class ToolboxMixin:
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
