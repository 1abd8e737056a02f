"""The one-shot game: look at a degraded photograph, write the whole plan, get its quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from opera_env.envs.config import EnvConfig
from opera_env.envs.observation import Episode, observe_pixels
from opera_env.envs.render import image_strip
from opera_env.envs.rules import Info, Rules, ToolboxMixin, Transition
from opera_env.reward import env_reward
from opera_env.types import Sample

Pixels = NDArray[np.uint8]


class OneShotRules(Rules[Pixels]):
    """One action is a whole plan; every episode has one step."""

    def __init__(self, config: EnvConfig) -> None:
        super().__init__(config)
        side = config.obs_size
        self.observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.action_space = spaces.MultiDiscrete([len(self.toolbox) + 1] * config.max_tools)

    def _observe(self, episode: Episode) -> Pixels:
        return observe_pixels(episode, self.config.obs_size)

    def reset(self, samples: Sequence[Sample]) -> list[tuple[Episode, Pixels, Info]]:
        episodes = [Episode(sample) for sample in samples]
        return [(episode, self._observe(episode), self.info(episode)) for episode in episodes]

    def terminates(self, episode: Episode, action: Any) -> bool:
        self.codec.decode(action)  # refused before the next photograph is drawn
        return True

    def _step(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[Pixels]]:
        plans = [self.codec.decode(action) for action in actions]
        outcomes = self.scorer.score([episode.sample for episode in episodes], plans)
        transitions: list[Transition[Pixels]] = []
        for episode, plan, outcome in zip(episodes, plans, outcomes, strict=True):
            episode.plan, episode.outcome, episode.done = plan, outcome, True
            reward = env_reward(outcome, self.config.tool_cost)
            transitions.append(Transition(self._observe(episode), reward, True, self.info(episode)))
        return transitions


class RestoreEnv(ToolboxMixin, gym.Env[Pixels, NDArray[np.int64]]):
    """Write a whole restoration plan at once.

    ## Description
    A photograph was damaged in several ways at once. A toolbox holds one restoration
    network per damage. Which to apply, in what order, how often? The plan is written in
    one go, the tools run, and the quality of the result is the reward.

    ## Action space
    ``MultiDiscrete([N + 1] * max_tools)``: N tools, 0 is STOP. Entries after the first STOP
    are ignored, so all zeros leaves the image alone.

    ## Observation space
    ``Box(0, 255, (obs_size, obs_size, 3), uint8)``: the degraded image, brought to canvas
    size first, so that a low-resolution image looks blurred. After the step: the result.

    ## Rewards
    R_q of the result (0 to 10 in the default preset) less ``tool_cost`` per tool.

    ## Starting state
    A sample drawn from the source with the environment's generator. ``reset(options={"sample":
    spec})`` starts from a given :class:`~opera_env.types.SampleSpec` or its JSON.

    ## Episode end
    Terminates after one step; never truncates.

    ## Information
    ``plan``, ``degradations`` (the truth), ``sample`` (the specification as JSON); after the
    step also ``metrics``, ``terms``, ``r_q`` and ``restored`` (a PIL image).

    ## Arguments
    Those of :class:`~opera_env.envs.config.EnvConfig`, by name; ``render_mode="rgb_array"`` draws the
    input, every tool's result and the reference side by side.

    Source: sections 3.1 and 4.2 of the paper.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012 - Gymnasium's own type
    rules_class: type[Rules[Any]] = OneShotRules

    def __init__(self, render_mode: str | None = None, **world: Any) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise gym.error.UnsupportedMode(f"expected None or 'rgb_array', found {render_mode!r}.")
        self.rules = self.rules_class(self.rules_class.config_class(**world))
        self.render_mode = render_mode
        self.observation_space = self.rules.observation_space
        self.action_space = self.rules.action_space
        self._episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        sample = self.rules.sample(self.np_random, options)
        self._episode, observation, info = self.rules.reset([sample])[0]
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() before step().")
        now = self.rules.step([self._episode], [action])[0]
        return now.observation, now.reward, now.terminated, False, now.info

    def render(self) -> Pixels | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.render_mode is None:
            gym.logger.warn("render() does nothing: make the environment with render_mode='rgb_array'.")
            return None
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() before render().")
        return np.asarray(image_strip(self.rules.frames(self._episode)))
