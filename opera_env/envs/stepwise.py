"""The stepwise environment: apply one tool at a time and observe its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from opera_env.envs.config import EnvConfig, check_argument
from opera_env.envs.masks import action_mask
from opera_env.envs.observation import Episode, observe_pixels, original_pixels
from opera_env.envs.restore import RestoreEnv
from opera_env.envs.rules import Info, Rules, Transition
from opera_env.errors import RewardError
from opera_env.execution import PrefixCache
from opera_env.reward import env_reward
from opera_env.types import Sample

StepwiseObs = dict[str, Any]
"""An observation: ``image``, ``original``, ``steps_left`` and ``used``; see :class:`StepwiseEnv`."""


@dataclass(frozen=True)
class StepwiseConfig(EnvConfig):
    """Constructor arguments of the stepwise environments: those of :class:`EnvConfig` and one more.

    Attributes:
        mask_upscale: Whether action masks forbid tools that upscale once the image has the size of its
            canvas, where they can no longer enlarge it. With False, masks allow every action. Masks are
            advice for learners: a step never refuses a tool.
    """

    mask_upscale: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_argument(
            "mask_upscale",
            self.mask_upscale,
            isinstance(self.mask_upscale, bool | np.bool_),
            "True or False",
        )


class StepwiseRules(Rules[StepwiseObs]):
    """One action is one tool, and an episode ends at STOP or after ``max_tools`` tools.

    Args:
        config: The constructor arguments of the environment.

    Raises:
        RewardError: If the reward does not score the empty plan: the rewards of the steps would not add up
            to the reward of the one-shot environment.
    """

    config_class = StepwiseConfig

    def __init__(self, config: StepwiseConfig) -> None:
        super().__init__(config)
        if not self.scorer.reward.score_empty_plan:
            raise RewardError(
                f"the reward {self.scorer.reward.name!r} gives 0 to the empty plan, so the rewards of "
                "steps do not add up to it: use it with OPERA-Restore-v0, or use another reward."
            )
        self.mask_upscale = config.mask_upscale
        side, num_tools, max_tools = config.obs_size, len(self.toolbox), config.max_tools
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (side, side, 3), np.uint8),
                "original": spaces.Box(0, 255, (side, side, 3), np.uint8),
                "steps_left": spaces.Discrete(max_tools + 1),
                "used": spaces.MultiDiscrete([num_tools + 1] * max_tools),
            }
        )
        self.action_space = spaces.Discrete(num_tools + 1)

    def _cache(self) -> PrefixCache:
        return PrefixCache()  # a step runs one tool instead of the whole plan so far

    def _observe(self, episode: Episode) -> StepwiseObs:
        return {
            "image": observe_pixels(episode, self.config.obs_size),
            "original": original_pixels(episode, self.config.obs_size),
            "steps_left": np.int64(self.config.max_tools - len(episode.plan)),
            "used": self.codec.encode(episode.plan),
        }

    def reset(self, samples: Sequence[Sample]) -> list[tuple[Episode, StepwiseObs, Info]]:
        outcomes = self.scorer.score(samples, [()] * len(samples))
        episodes = [
            Episode(sample, outcome=outcome) for sample, outcome in zip(samples, outcomes, strict=True)
        ]
        return [(episode, self._observe(episode), self.info(episode)) for episode in episodes]

    def terminates(self, episode: Episode, action: Any) -> bool:
        tools = self.codec.decode_tool(action)
        return not tools or len(episode.plan) + 1 == self.config.max_tools

    def _step(self, episodes: Sequence[Episode], actions: Sequence[Any]) -> list[Transition[StepwiseObs]]:
        chosen_tools = [self.codec.decode_tool(action) for action in actions]
        terminated = [
            self.terminates(episode, action) for episode, action in zip(episodes, actions, strict=True)
        ]
        plans = [episode.plan + tools for episode, tools in zip(episodes, chosen_tools, strict=True)]
        acting = [index for index, tools in enumerate(chosen_tools) if tools]  # the others chose STOP
        outcomes = self.scorer.score([episodes[i].sample for i in acting], [plans[i] for i in acting])
        tool_cost, rewards = self.config.tool_cost, [0.0] * len(episodes)
        for index, outcome in zip(acting, outcomes, strict=True):
            previous = episodes[index].outcome
            assert previous is not None
            rewards[index] = env_reward(outcome, tool_cost) - env_reward(previous, tool_cost)
            episodes[index].plan, episodes[index].outcome = plans[index], outcome
        transitions: list[Transition[StepwiseObs]] = []
        for episode, done, reward in zip(episodes, terminated, rewards, strict=True):
            episode.done = done
            transitions.append(Transition(self._observe(episode), float(reward), done, self.info(episode)))
        return transitions

    def action_mask(self, episode: Episode) -> NDArray[np.bool_]:
        """Returns which of the N + 1 actions are allowed in an episode, bool (N + 1,)."""
        sample = episode.sample
        return action_mask(self.toolbox, episode.plan, sample.size, sample.canvas, self.mask_upscale)


class StepwiseEnv(RestoreEnv):
    """Apply one restoration tool at a time: ``OPERA-RestoreStepwise-v0``.

    ## Description
    The same task as :class:`~opera_env.envs.restore.RestoreEnv`, one tool per step: the agent chooses a
    tool, observes its result and chooses the next tool, until it stops.

    ## Action Space
    ``Discrete(N + 1)`` for N tools. Action 0 is STOP; action i is the i-th tool of
    ``env.unwrapped.toolbox.names``, counted from 1. :meth:`action_masks` tells which actions a learner
    should choose from (sb3-contrib's MaskablePPO calls it). It forbids tools that upscale once the image
    has the size of its canvas: on other images than those of low resolution from the start, and on these
    after one such tool. STOP and all other tools are always allowed, repeated ones too; with
    ``mask_upscale=False`` every action is. A step runs any tool, whether it is masked or not.

    ## Observation Space
    ``Dict`` of

    - ``image``: the current image, ``Box(0, 255, (obs_size, obs_size, 3), uint8)``, RGB, resized to the
      canvas first and then to ``obs_size``;
    - ``original``: the image before the first tool, likewise;
    - ``steps_left``: how many more tools may be applied, ``Discrete(max_tools + 1)``;
    - ``used``: the plan so far, ``MultiDiscrete([N + 1] * max_tools)``, padded with 0.

    ## Rewards
    The increase of R_q, less ``tool_cost`` for the tool; 0 for STOP. The undiscounted return is the reward
    of the same plan in ``OPERA-Restore-v0`` less R_q of the input image. Learners must therefore use the
    discount factor gamma = 1: with the usual 0.99, a gain counts for less the later its tool runs, so that
    plans become shorter than the best ones.

    ## Starting State
    As in :class:`~opera_env.envs.restore.RestoreEnv`.

    ## Episode End
    The episode terminates at STOP or after ``max_tools`` tools. It is never truncated, so that learners do
    not bootstrap from a value after the end.

    ## Arguments
    Those of :class:`~opera_env.envs.restore.RestoreEnv`, and ``mask_upscale=True``. See
    :class:`StepwiseConfig`.

    ## Information
    The keys of :class:`~opera_env.envs.restore.RestoreEnv`, all of them from ``reset`` too: there
    ``metrics``, ``terms``, ``r_q`` and ``restored`` are those of the input image.

    ## Version History
    - v0: initial version.

    Example:
        The mask has one entry per action, STOP first, and can be passed to ``action_space.sample``:

        >>> import gymnasium as gym
        >>> env = gym.make("opera_env:OPERA-RestoreStepwise-v0", reward="classic")
        >>> observation, info = env.reset(seed=0)
        >>> mask = env.unwrapped.action_masks()
        >>> mask.shape == (len(env.unwrapped.toolbox) + 1,), bool(mask[0])
        (True, True)
        >>> action = env.action_space.sample(mask.astype("int8"))
    """

    rules_class = StepwiseRules

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns which of the N + 1 actions are allowed now, bool (N + 1,); STOP comes first.

        Before the first reset, all are. See :func:`opera_env.envs.masks.action_mask`.
        """
        assert isinstance(self.rules, StepwiseRules)
        if self._episode is None:
            return np.ones(len(self.toolbox) + 1, np.bool_)
        return self.rules.action_mask(self._episode)
