"""The stepwise game: one tool at a time, looking again after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from opera_env.envs.config import EnvConfig
from opera_env.envs.observation import Episode, observe_pixels, original_pixels
from opera_env.envs.restore import RestoreEnv
from opera_env.envs.rules import Info, Rules, Transition
from opera_env.errors import RewardError
from opera_env.execution import PrefixCache
from opera_env.reward import env_reward
from opera_env.types import Sample

StepwiseObs = dict[str, Any]


@dataclass(frozen=True)
class StepwiseConfig(EnvConfig):
    """Constructor arguments of the stepwise environments: those of the one-shot game, and one.

    Attributes:
        mask_upscale: Whether masks forbid enlarging tools once the image fills its canvas.
    """

    mask_upscale: bool = False


class StepwiseRules(Rules[StepwiseObs]):
    """One action is one tool; an episode ends at STOP or after ``max_tools`` tools.

    Args:
        config: The world.

    Raises:
        RewardError: If the reward does not judge the untouched image, so that the gains
            would not add up to the one-shot reward.
    """

    config_class = StepwiseConfig

    def __init__(self, config: StepwiseConfig) -> None:
        super().__init__(config)
        if not self.scorer.reward.score_empty_plan:
            raise RewardError(
                f"the reward {self.scorer.reward.name!r} gives 0 to the untouched image, so gains do "
                "not add up to it: use it with OPERA-Restore-v0, or another reward here."
            )
        self.mask_upscale = config.mask_upscale
        side, tools, longest = config.obs_size, len(self.toolbox), config.max_tools
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (side, side, 3), np.uint8),
                "original": spaces.Box(0, 255, (side, side, 3), np.uint8),
                "steps_left": spaces.Discrete(longest + 1),
                "used": spaces.MultiDiscrete([tools + 1] * longest),
            }
        )
        self.action_space = spaces.Discrete(tools + 1)

    def _cache(self) -> PrefixCache:
        return PrefixCache()  # so that a step runs one tool, not the plan so far

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
        added = [self.codec.decode_tool(action) for action in actions]
        ending = [
            self.terminates(episode, action) for episode, action in zip(episodes, actions, strict=True)
        ]
        plans = [episode.plan + tools for episode, tools in zip(episodes, added, strict=True)]
        moved = [index for index, tools in enumerate(added) if tools]
        outcomes = self.scorer.score([episodes[i].sample for i in moved], [plans[i] for i in moved])
        cost, gains = self.config.tool_cost, [0.0] * len(episodes)
        for index, outcome in zip(moved, outcomes, strict=True):
            before = episodes[index].outcome
            assert before is not None
            gains[index] = env_reward(outcome, cost) - env_reward(before, cost)
            episodes[index].plan, episodes[index].outcome = plans[index], outcome
        transitions: list[Transition[StepwiseObs]] = []
        for episode, ends, gain in zip(episodes, ending, gains, strict=True):
            episode.done = ends
            observation = self._observe(episode)
            transitions.append(Transition(observation, float(gain), episode.done, self.info(episode)))
        return transitions

    def action_mask(self, episode: Episode) -> NDArray[np.bool_]:
        """Returns which of the N + 1 actions are allowed."""
        mask = np.ones(len(self.toolbox) + 1, np.bool_)
        if self.mask_upscale:
            size = episode.sample.lq.shape[-2:]
            height, width = int(size[0]), int(size[1])
            for name in episode.plan:
                tool = self.toolbox[name]
                if tool.upscales((height, width), episode.sample.canvas):
                    height, width = height * tool.scale, width * tool.scale
            for action, tool in enumerate(self.toolbox, start=1):
                mask[action] = tool.scale == 1 or tool.upscales((height, width), episode.sample.canvas)
        return mask


class StepwiseEnv(RestoreEnv):
    """Apply one restoration tool at a time.

    ## Description
    The same world as :class:`~opera_env.envs.restore.RestoreEnv`, played in SimpleCall's way:
    choose a tool, look at its result, choose the next.

    ## Action space
    ``Discrete(N + 1)``: 0 is STOP, i is the toolbox's i-th tool. :meth:`action_masks` allows
    all of them, unless ``mask_upscale=True`` forbids enlarging tools at canvas size.

    ## Observation space
    ``Dict`` of ``image`` and ``original`` (uint8, obs_size x obs_size x 3, both at canvas size
    first), ``steps_left`` and ``used`` (the plan so far as a one-shot action).

    ## Rewards
    The gain in R_q, less ``tool_cost`` per tool. Undiscounted, the return is the one-shot
    reward of the same plan less R_q of the untouched image.

    ## Starting state
    As in the one-shot game.

    ## Episode end
    Terminates at STOP or after ``max_tools`` tools; never truncates, so that nobody bootstraps
    past the end.

    ## Information
    As in the one-shot game, after ``reset`` too.

    ## Arguments
    Those of :class:`StepwiseConfig`, by name, and ``render_mode`` as in the one-shot game.
    """

    rules_class = StepwiseRules

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns which of the N + 1 actions are allowed now, bool (N + 1,)."""
        assert isinstance(self.rules, StepwiseRules)
        if self._episode is None:
            return np.ones(len(self.toolbox) + 1, np.bool_)
        return self.rules.action_mask(self._episode)
