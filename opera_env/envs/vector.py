"""Vector environments: each step runs the tools and metrics of all sub-environments in batches."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations import Recipe
from opera_env.envs.config import check_argument, check_count, make_config
from opera_env.envs.observation import Episode
from opera_env.envs.options import check_options, chosen_recipe, chosen_sample
from opera_env.envs.restore import OneShotRules
from opera_env.envs.rules import Rules, ToolboxMixin, Transition
from opera_env.envs.spec import resolve_arguments
from opera_env.envs.stepwise import StepwiseRules
from opera_env.types import Sample, SampleSpec


class RestoreVectorEnv(ToolboxMixin, VectorEnv[Any, Any, NDArray[np.float64]]):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The vector form of :class:`~opera_env.envs.restore.RestoreEnv`, with autoreset in the same step.

    Sub-environment i behaves like a single environment that is reset with ``seed + i // group_size``. The
    members of a group therefore receive the same images, as group-relative learners such as GRPO need.

    Args:
        num_envs: Number of sub-environments, a multiple of ``group_size``.
        group_size: Number of consecutive sub-environments that receive the same images.
        render_mode: "rgb_array" for :meth:`render`, or None.
        **config: The arguments of :class:`~opera_env.envs.config.EnvConfig`.

    ## Information
    The keys of the single environment, as Gymnasium's vector environments stack them. When an episode ends,
    the next one starts in the same step, and ``final_obs`` and ``final_info`` hold the last observation and
    info of the episode that has ended.

    Raises:
        EnvArgumentError: If an argument is unknown or its value cannot be used, such as ``num_envs`` that
            is not a multiple of ``group_size``.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012

    rules_class: type[Rules[Any]] = OneShotRules

    def __init__(
        self, num_envs: int = 8, group_size: int = 1, render_mode: str | None = None, **config: Any
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise gym.error.UnsupportedMode(
                f"expected render_mode None or 'rgb_array', found {render_mode!r}; "
                "gymnasium.wrappers.vector.HumanRendering shows the frames in a window."
            )
        check_count("num_envs", num_envs)
        check_count("group_size", group_size)
        check_argument(
            "num_envs", num_envs, num_envs % group_size == 0, f"a multiple of group_size, {group_size}"
        )
        super().__init__()
        others = ("num_envs", "group_size", "render_mode")
        self.rules = self.rules_class(
            make_config(self.rules_class.config_class, resolve_arguments(config), others)
        )
        self.num_envs = num_envs
        self.group_size = group_size
        self.render_mode = render_mode
        self.single_observation_space = self.rules.observation_space
        self.single_action_space = self.rules.action_space
        self.observation_space = batch_space(self.rules.observation_space, num_envs)
        self.action_space = batch_space(self.rules.action_space, num_envs)
        self._generators: list[Generator] | None = None
        self._episodes: list[Episode] = []
        self._shown: list[Episode] = []  # those that the last call of reset or step acted on

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all sub-environments.

        Args:
            seed: One number, from which sub-environment i takes ``seed + i // group_size``; or a list with
                one seed per sub-environment; None continues with the present generators.
            options: ``{"sample": spec}`` starts all sub-environments from one specification;
                ``{"recipe": "rain+noise"}`` draws their samples, all with one recipe.

        Raises:
            ValueError: If a list of seeds does not have one seed per sub-environment.
            EnvArgumentError: If there is an option of another name.
            SampleError: If the source cannot make the sample.
        """
        self.rules.check_open("reset")
        options = dict(check_options(options))
        chosen, recipe = chosen_sample(self.rules.source, options), chosen_recipe(options)
        if seed is not None or self._generators is None:
            self._generators = self._make_generators(seed)
        samples = [chosen] * self.num_envs if chosen else self._samples(range(self.num_envs), recipe)
        starts = self.rules.reset(samples)
        self._episodes = [episode for episode, _, _ in starts]
        self._shown = list(self._episodes)
        infos: dict[str, Any] = {}
        for index, (_, _, info) in enumerate(starts):
            infos = self._add_info(infos, info, index)
        return self._batch([observation for _, observation, _ in starts]), infos

    def _make_generators(self, seed: int | Sequence[int | None] | None) -> list[Generator]:
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + index // self.group_size for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"expected one seed or {self.num_envs} seeds, found {len(seed)}.")
        return [seeding.np_random(env_seed)[0] for env_seed in seed]

    def _samples(self, indices: Sequence[int], recipe: Recipe | None = None) -> list[Sample]:
        """Draws samples for some sub-environments; equal samples are made once."""
        assert self._generators is not None
        cache: dict[SampleSpec, Sample] = {}
        samples: list[Sample] = []
        for index in indices:
            spec = self.rules.draw(self._generators[index], recipe)
            sample = cache.get(spec) or self.rules.source.make(spec)
            samples.append(cache.setdefault(sample.spec, sample))
        return samples

    def step(  # pyright: ignore[reportIncompatibleMethodOverride] - the base class types flags as floats
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Takes one action in each sub-environment and resets the episodes that end in the same step."""
        self.rules.check_open("step")
        if not self._episodes:
            raise gym.error.ResetNeeded("call reset() before step().")
        action_list = list(iterate(self.action_space, actions))
        self.rules.check_ready(self._episodes)
        terminating = [
            index
            for index, (episode, action) in enumerate(zip(self._episodes, action_list, strict=True))
            if self.rules.terminates(episode, action)
        ]
        assert self._generators is not None
        rng_states = [generator.bit_generator.state for generator in self._generators]
        before = [copy(episode) for episode in self._episodes]
        try:
            with ThreadPoolExecutor(1) as background:  # makes the next samples while the tools run
                next_samples = background.submit(self._samples, terminating)
                transitions: list[Transition[Any]] = self.rules.step(self._episodes, action_list)
            samples = next_samples.result()
        except BaseException:  # a step that fails must change neither the generators nor the episodes
            self._episodes = before
            for generator, state in zip(self._generators, rng_states, strict=True):
                generator.bit_generator.state = state
            raise
        self._shown = list(self._episodes)
        starts = self.rules.reset(samples) if terminating else []
        resets = dict(zip(terminating, starts, strict=True))
        observations: list[Any] = []
        infos: dict[str, Any] = {}
        for index, transition in enumerate(transitions):
            observation, info = transition.observation, transition.info
            if index in resets:
                final = {"final_obs": observation, "final_info": info}
                infos = self._add_info(infos, final, index)
                self._episodes[index], observation, info = resets[index]
            observations.append(observation)
            infos = self._add_info(infos, info, index)
        rewards = np.array([transition.reward for transition in transitions], np.float64)
        terminated = np.array([transition.terminated for transition in transitions], np.bool_)
        return self._batch(observations), rewards, terminated, np.zeros(self.num_envs, np.bool_), infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draws the episode of each sub-environment, uint8 (H, W, 3), all of one size.

        An episode that has ended in the last step is drawn, and not yet the one that has started in the
        same step: its plan would never be seen otherwise.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() does nothing without render_mode='rgb_array': pass it to gym.make_vec()."
            )
            return None
        self.rules.check_open("render")
        if not self._shown:
            raise gym.error.ResetNeeded("call reset() before render().")
        return tuple(self.rules.render(episode) for episode in self._shown)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends all episodes and gives the memory of cached images back to the system.

        Later calls of ``reset``, ``step`` and ``render`` raise ``gymnasium.error.ClosedEnvironmentError``.
        """
        self._episodes, self._shown = [], []
        self.rules.close()

    def _batch(self, observations: Sequence[Any]) -> Any:
        empty = create_empty_array(self.single_observation_space, self.num_envs)
        return concatenate(self.single_observation_space, observations, empty)


class StepwiseVectorEnv(RestoreVectorEnv):
    """The vector form of :class:`~opera_env.envs.stepwise.StepwiseEnv`, with autoreset in the same step.

    Args:
        num_envs: Number of sub-environments, a multiple of ``group_size``.
        group_size: Number of consecutive sub-environments that receive the same images.
        render_mode: "rgb_array" for :meth:`render`, or None.
        **config: The arguments of :class:`~opera_env.envs.stepwise.StepwiseConfig`.
    """

    rules_class = StepwiseRules

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns which actions are allowed now, bool (num_envs, N + 1); STOP comes first."""
        assert isinstance(self.rules, StepwiseRules)
        if not self._episodes:
            return np.ones((self.num_envs, len(self.toolbox) + 1), np.bool_)
        return np.stack([self.rules.action_mask(episode) for episode in self._episodes])
