"""The one-shot environment: observe a degraded image, write a whole plan, receive its reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from opera_env.envs.config import EnvConfig, make_config
from opera_env.envs.observation import Episode, observe_pixels
from opera_env.envs.options import check_options, chosen_recipe, chosen_sample
from opera_env.envs.rules import Info, Rules, ToolboxMixin, Transition
from opera_env.envs.spec import resolve_arguments
from opera_env.reward import env_reward
from opera_env.types import Sample

PixelArray = NDArray[np.uint8]


class OneShotRules(Rules[PixelArray]):
    """One action is a whole plan, and every episode has one step."""

    def __init__(self, config: EnvConfig) -> None:
        super().__init__(config)
        side = config.obs_size
        self.observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.action_space = spaces.MultiDiscrete([len(self.toolbox) + 1] * config.max_tools)

    def _observe(self, episode: Episode) -> PixelArray:
        return observe_pixels(episode, self.config.obs_size)

    def reset(self, samples: Sequence[Sample]) -> list[tuple[Episode, PixelArray, Info]]:
        episodes = [Episode(sample) for sample in samples]
        return [(episode, self._observe(episode), self.info(episode)) for episode in episodes]

    def terminates(self, episode: Episode, action: Any) -> bool:
        self.codec.decode(action)  # an invalid action raises before the next sample is drawn
        return True

    def _step(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[PixelArray]]:
        plans = [self.codec.decode(action) for action in actions]
        outcomes = self.scorer.score([episode.sample for episode in episodes], plans)
        transitions: list[Transition[PixelArray]] = []
        for episode, plan, outcome in zip(episodes, plans, outcomes, strict=True):
            episode.plan, episode.outcome, episode.done = plan, outcome, True
            reward = env_reward(outcome, self.config.tool_cost)
            transitions.append(Transition(self._observe(episode), reward, True, self.info(episode)))
        return transitions


class RestoreEnv(ToolboxMixin, gym.Env[PixelArray, NDArray[np.int64]]):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Write a whole restoration plan at once: ``OPERA-Restore-v0``.

    ## Description
    An image has one or more degradations, such as rain, haze, noise or JPEG compression. A toolbox has
    restoration networks for them. The agent observes the image and writes a plan: which tools to apply, in
    which order, and how often. The tools run, and the quality of the result is the reward.

    ## Action Space
    ``MultiDiscrete([N + 1] * max_tools)`` for N tools. Action 0 is STOP; action i is the i-th tool of
    ``env.unwrapped.toolbox.names``, counted from 1. Entries after the first STOP are ignored, so an action
    of zeros leaves the image unchanged.

    ## Observation Space
    ``Box(0, 255, (obs_size, obs_size, 3), uint8)``: the degraded image in RGB, resized to the canvas first
    (an image of low resolution then looks blurred) and then to ``obs_size``. The observation after the
    step is the restored image.

    ## Rewards
    R_q of the restored image less ``tool_cost`` for each tool of the plan. R_q lies in [0, 10] in the
    default preset, "lite".

    ## Starting State
    A sample that the source draws with the random generator of the environment.
    ``reset(options={"sample": spec})`` starts from a given :class:`~opera_env.types.SampleSpec`, or from
    its JSON as in ``info["sample"]``. ``reset(options={"recipe": "rain+noise"})`` draws a sample with this
    recipe.

    ## Episode End
    The episode terminates after one step. It is never truncated.

    ## Arguments
    ``gym.make("OPERA-Restore-v0", toolbox="lite", reward="lite", source=None, max_tools=6, obs_size=128,
    canvas=128, tool_cost=0.0, device="auto", recipes=None, degradations=None,
    trust_code=False, render_mode=None)``. See
    :class:`~opera_env.envs.config.EnvConfig`. ``render_mode="rgb_array"`` draws the input, the result of
    each tool and the reference, as frames of one size; ``gym.make(..., render_mode="human")`` shows them in
    a window, for which Gymnasium needs pygame.

    ## Information
    From ``reset`` and ``step``:

    - ``plan``: names of the tools applied so far, a tuple.
    - ``degradations``: the labels of the sample, a sorted tuple. They are defined by the source and are
      not part of the observation. ``()`` for an image without degradations; None where the labels are not
      known, as for a photograph.
    - ``sample``: the specification of the sample as JSON; pass it to ``reset`` to start from it again.

    From ``step`` only:

    - ``metrics``: the value of each metric, by name.
    - ``terms``: the contribution of each metric to R_q, by name.
    - ``r_q``: R_q, the sum of the terms.
    - ``restored``: the restored image at canvas size, a PIL image.

    ## Version History
    - v0: initial version.

    Source: sections 3.1 and 4.2 of the paper.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012 - Gymnasium's own type
    rules_class: type[Rules[Any]] = OneShotRules

    def __init__(self, render_mode: str | None = None, **config: Any) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise gym.error.UnsupportedMode(
                f"expected render_mode None or 'rgb_array', found {render_mode!r}; gym.make(..., "
                "render_mode='human') shows the frames in a window."
            )
        self.rules = self.rules_class(
            make_config(self.rules_class.config_class, resolve_arguments(config), ("render_mode",))
        )
        self.render_mode = render_mode
        self.observation_space = self.rules.observation_space
        self.action_space = self.rules.action_space
        self._episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.rules.check_open("reset")
        options = dict(check_options(options))
        chosen, recipe = chosen_sample(self.rules.source, options), chosen_recipe(options)
        super().reset(seed=seed)
        sample = chosen or self.rules.source.make(self.rules.draw(self.np_random, recipe))
        self._episode, observation, info = self.rules.reset([sample])[0]
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.rules.check_open("step")
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() before step().")
        result = self.rules.step([self._episode], [action])[0]
        return result.observation, result.reward, result.terminated, False, result.info

    def render(self) -> PixelArray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without render_mode='rgb_array': pass it to gym.make().")
            return None
        self.rules.check_open("render")
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() before render().")
        return self.rules.render(self._episode)

    def close(self) -> None:
        """Ends the episode and gives the memory of cached images back to the system.

        Later calls of ``reset``, ``step`` and ``render`` raise ``gymnasium.error.ClosedEnvironmentError``.
        """
        self._episode = None
        if not self.rules.closed:
            self.rules.close()
