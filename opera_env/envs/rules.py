"""The rules of an environment for any number of episodes, shared by the single and the vector form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.data import resolve_source
from opera_env.data.images import resize, to_pil
from opera_env.degradations import Recipe
from opera_env.envs.config import EnvConfig
from opera_env.envs.observation import Episode, restored_pil
from opera_env.envs.render import Captioned, image_frame
from opera_env.envs.spec import load_named_toolbox, restore_spec
from opera_env.errors import ToolboxMismatchError
from opera_env.execution import PrefixCache
from opera_env.execution.memory import release_freed_memory
from opera_env.plan import PlanCodec
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec

ObsType = TypeVar("ObsType")
Info = dict[str, Any]


@dataclass(frozen=True)
class Transition(Generic[ObsType]):
    """The result of one step of one episode.

    Attributes:
        observation: The observation after the step.
        reward: The reward of the step.
        terminated: Whether the episode has ended.
        info: The info of the episode; see the environment classes for its keys.
    """

    observation: ObsType
    reward: float
    terminated: bool
    info: Info


class Rules(ABC, Generic[ObsType]):
    """Reset and step for any number of episodes at once.

    A single environment has one episode, a vector environment has many. Both use the same rules and the
    same scorer.

    Args:
        config: The constructor arguments of the environment.

    Attributes:
        toolbox: The tools, shared with the caller that passed them.
        scorer: Turns plans into outcomes.
        source: Draws and makes samples.
        codec: Converts between actions and plans.
        closed: Whether the environment was closed.

    Raises:
        ToolboxMismatchError: If the toolbox is empty.
    """

    config_class: type[EnvConfig] = EnvConfig
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
        if isinstance(config.toolbox, Toolbox):
            self.toolbox = config.toolbox
        else:
            self.toolbox = load_named_toolbox(config)
        if len(self.toolbox) == 0:
            raise ToolboxMismatchError(
                "expected a toolbox with at least one tool, found an empty one: add tools with "
                "toolbox.add(name, network)."
            )
        self.source = resolve_source(config.source, config.canvas, config.recipes, config.degradations)
        self.codec = PlanCodec(self.toolbox.names, config.max_tools)
        self.scorer = PlanScorer(self.toolbox, config.reward, cache=self._cache())
        self.closed = False

    def _cache(self) -> PrefixCache | None:
        """Returns the cache of the scorer, if the environment benefits from one."""
        return None

    @abstractmethod
    def reset(self, samples: Sequence[Sample]) -> list[tuple[Episode, ObsType, Info]]:
        """Starts one episode per sample."""

    @abstractmethod
    def _step(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[ObsType]]:
        """Takes one action in each episode; none of the episodes has ended."""

    @abstractmethod
    def terminates(self, episode: Episode, action: Any) -> bool:
        """Returns whether an action ends an episode. The answer is known before the tools run.

        Raises:
            PlanParseError: If the action lies outside the action space.
        """

    def close(self) -> None:
        """Gives the memory of cached images back to the system; the tools stay with who shares them."""
        self.closed = True
        self.scorer.clear_caches()
        release_freed_memory()

    def check_open(self, method: str) -> None:
        """Checks that a method of the environment may be called.

        Raises:
            ClosedEnvironmentError: If the environment was closed.
        """
        if self.closed:
            raise ClosedEnvironmentError(
                f"{method}() was called after close(): make a new environment with gym.make(...)."
            )

    def check_ready(self, episodes: Sequence[Episode]) -> None:
        """Checks that the episodes can be continued.

        Raises:
            ResetNeeded: If an episode has ended.
            ToolboxMismatchError: If tools were added to the toolbox since the environment was made.
        """
        if any(episode.done for episode in episodes):
            raise ResetNeeded("the episode has ended: call reset() before step().")
        if self.toolbox.names != self.codec.names:
            raise ToolboxMismatchError(
                f"the environment was made for {len(self.codec.names)} tools and the toolbox now has "
                f"{len(self.toolbox)}: make a new environment after toolbox.add(...)."
            )

    def step(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[ObsType]]:
        """Takes one action in each episode.

        Raises:
            ResetNeeded: If an episode has ended.
            PlanParseError: If an action lies outside the action space.
            ToolboxMismatchError: If tools were added to the toolbox since the environment was made.
        """
        self.check_ready(episodes)
        return self._step(episodes, actions)

    def draw(self, rng: Generator, recipe: Recipe | None = None) -> SampleSpec:
        """Draws a specification from the source; with a recipe, it replaces the one that was drawn."""
        spec = self.source.draw(rng)
        return spec if recipe is None else replace(spec, recipe=recipe, sha256="")

    def info(self, episode: Episode) -> Info:
        """Returns the info of an episode, labels included; see the environment classes for its keys."""
        sample = episode.sample
        labels = None if sample.degradations is None else tuple(sorted(sample.degradations))
        info: Info = {"plan": episode.plan, "degradations": labels, "sample": sample.spec.to_json()}
        if episode.outcome is not None:
            info |= {
                "metrics": dict(episode.outcome.metrics),
                "terms": dict(episode.outcome.terms),
                "r_q": episode.outcome.r_q,
                "restored": restored_pil(episode.outcome),
            }
        return info

    def render(self, episode: Episode) -> NDArray[np.uint8]:
        """Draws the input, the result of each tool and the reference.

        Returns:
            uint8 (H, W, 3). H and W depend on ``max_tools`` alone: there is a slot for each tool that a
            plan may have, and slots of tools that were not applied are empty.
        """
        images = self.captioned_images(episode)
        reference = images.pop() if episode.sample.reference is not None else None
        empty = [None] * (self.config.max_tools + 1 - len(images))
        return np.array(image_frame([*images, *empty, reference]))

    def captioned_images(self, episode: Episode) -> list[Captioned]:
        """Returns images with captions: the input, the result of each tool, and the reference, if any."""
        sample = episode.sample
        prefixes = [episode.plan[:length] for length in range(len(episode.plan) + 1)]
        results = {
            result.plan: to_pil(resize(result.image[None], sample.canvas)[0].clamp(0, 1))
            for result in self.scorer.executor.run([sample] * len(prefixes), prefixes)
        }
        recipe = " > ".join(sample.spec.recipe)
        frames = [(f"input {recipe}", results[()])]
        frames += [(prefix[-1], results[prefix]) for prefix in prefixes[1:]]
        if sample.reference is not None:
            frames.append(("reference", to_pil(sample.reference)))
        return frames


class ToolboxMixin:
    """Access to the tools of an environment, for code that trains them in this or another process.

    Attributes:
        rules: The rules of the environment.
    """

    rules: Rules[Any]
    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """The specification, from which ``gym.make`` makes the environment again."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        is_spec = isinstance(spec, EnvSpec)  # wrappers of other libraries may set something else
        self._spec = restore_spec(spec, self.rules.config, self.toolbox) if is_spec else spec

    @property
    def toolbox(self) -> Toolbox:
        """The tools of the environment. Training them in place changes the environment."""
        return self.rules.toolbox

    def load_toolbox(self, folder: Path | str, trust_code: bool = False) -> str:
        """Loads the weights of the tools from a folder that Toolbox.save has written.

        Use ``envs.call("load_toolbox", folder)`` for copies of an environment in other processes.

        Args:
            folder: Name of a shipped toolbox, or a folder.
            trust_code: Whether code that the folder names may run; it may in any case if the environment
                was made with ``trust_code=True``.

        Returns:
            The fingerprint of the toolbox with the new weights.

        Raises:
            ToolboxMismatchError: If the tools in the folder differ in names, order, scales or networks.
            ToolboxError: If there is no such toolbox, or its manifest cannot be read.
        """
        trust_code = trust_code or self.rules.config.trust_code
        return self.toolbox.load_weights(folder, trust_code).fingerprint

    def check_toolbox(self, fingerprint: str) -> None:
        """Checks that the tools have the expected weights.

        Args:
            fingerprint: The expected :attr:`Toolbox.fingerprint`.

        Raises:
            ToolboxMismatchError: If the toolbox has another fingerprint.
        """
        if self.toolbox.fingerprint != fingerprint:
            raise ToolboxMismatchError(
                f"expected tools with the fingerprint {fingerprint}, but this environment has "
                f"{self.toolbox.fingerprint}: a stale copy. Save the trained toolbox and call "
                "load_toolbox(folder) on this environment."
            )
