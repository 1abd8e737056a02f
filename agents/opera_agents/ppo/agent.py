"""Stable-Baselines3 models, and anything else with their ``predict`` method, as agents of this package."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from opera_agents.ppo.saved import AgentCard, load_agent
from opera_env.envs.masks import observed_action_mask
from opera_env.envs.observation import to_pixels
from opera_env.errors import AgentError, ToolboxMismatchError
from opera_env.metrics import build_metric
from opera_env.plan import PlanCodec
from opera_env.reward import REWARD_PRESETS
from opera_env.seeding import content_seed
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation

SHIPPED = Path(__file__).with_name("weights")
"""Folder of the policy that comes with the package, trained for the toolbox ``lite``."""

SIMPLECALL = Path(__file__).with_name("simplecall")
"""Folder of a policy that was rewarded without labels, if one comes with the package."""

_SIMPLECALL_REMEDY = (
    "python -m opera_agents.ppo.train --images DIR --out runs/simplecall --reward label_free "
    "--val-reward label_free --warm-start-steps 0, and simplecall:runs/simplecall"
)

_OBSERVATION_KEYS = ("image", "original", "steps_left", "used")


class SupportsPredict(Protocol):
    """The attributes that Stable-Baselines3's models and policies have in common."""

    @property
    def observation_space(self) -> Any: ...

    @property
    def action_space(self) -> Any: ...

    @property
    def predict(self) -> Any: ...


class PredictAgent:
    """Wraps a model that has ``predict(observation, deterministic=...)`` as an agent.

    Observations are encoded as the model's observation space says: the image alone, or a ``Dict`` of any
    of ``image``, ``original``, ``steps_left`` and ``used``. An action of a ``MultiDiscrete`` space is a
    whole plan (an open-loop agent). An action of a ``Discrete`` space is the next tool, after which the
    model observes the result (a closed-loop agent).

    Args:
        model: A model or its policy.
        toolbox: The toolbox that the model was trained for.
        signature: Signature of the toolbox that the model was trained for, if it is known.
        mask_upscale: The argument of the environment of the training. A model that takes ``action_masks``
            gets the masks that this environment gives, see :func:`opera_env.envs.masks.action_mask`.
        deterministic: Whether ``predict`` returns the most probable action instead of a sampled one.
        seed: Seed of sampled actions, which are then a function of the seed and of the observation, and
            imply ``deterministic=False``. With None, they draw from PyTorch's global generator.

    Attributes:
        closed_loop: Whether the model chooses one tool at a time.

    Raises:
        ToolboxMismatchError: If the model was trained for another toolbox.
        AgentError: If the model's spaces are not those of an environment of this package.
    """

    def __init__(
        self,
        model: SupportsPredict,
        toolbox: Toolbox,
        signature: str | None = None,
        mask_upscale: bool = True,
        deterministic: bool = True,
        seed: int | None = None,
    ) -> None:
        space = model.action_space
        if isinstance(space, spaces.Discrete):
            num_actions = {int(space.n)}
        elif isinstance(space, spaces.MultiDiscrete):
            num_actions = {int(n) for n in space.nvec}
        else:
            raise AgentError(f"expected a model with Discrete or MultiDiscrete actions, found {space}.")
        if signature not in (None, toolbox.signature) or num_actions != {len(toolbox) + 1}:
            raise ToolboxMismatchError(
                f"the agent was trained for {', '.join(str(n - 1) for n in sorted(num_actions))} tools"
                f"{f' (signature {signature})' if signature else ''}, but the toolbox has {len(toolbox)}: "
                f"{', '.join(toolbox.names)} (signature {toolbox.signature}). Use the toolbox that the "
                "agent was trained for, or train an agent for this one."
            )
        self.model = model
        self.closed_loop = isinstance(space, spaces.Discrete)
        self.deterministic, self.seed = deterministic and seed is None, seed
        self._toolbox = toolbox
        self._observation_spaces = _observation_spaces(model.observation_space)
        # The image is square, (H, W, 3) or (3, H, W): the second dimension is its side in both layouts.
        self._obs_size = int(self._observation_spaces["image"].shape[1])
        self._codec = PlanCodec(toolbox.names, self._max_tools_of(space))
        parameters = inspect.signature(model.predict).parameters
        self._supports_masks = self.closed_loop and "action_masks" in parameters
        self._mask_upscale = mask_upscale

    def _max_tools_of(self, space: spaces.Space[Any]) -> int:
        """Returns the maximum number of tools in a plan by the spaces; an image alone sets no limit."""
        if isinstance(space, spaces.MultiDiscrete):
            return len(space.nvec)
        if "used" in self._observation_spaces:
            return len(self._observation_spaces["used"].nvec)
        if "steps_left" in self._observation_spaces:
            return int(self._observation_spaces["steps_left"].n) - 1
        return sys.maxsize

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        decisions = [Decision(())] * len(observations)
        active = [
            index for index, observation in enumerate(observations) if self._steps_left(observation) > 0
        ]
        if not active:
            return decisions
        active_observations = [observations[index] for index in active]
        for index, action in zip(active, self._predict(active_observations), strict=True):
            plan = self._codec.decode_tool(action) if self.closed_loop else self._codec.decode(action)
            decisions[index] = Decision(plan[: observations[index].steps_left])
        return decisions

    def _predict(self, observations: Sequence[Observation]) -> Sequence[Any]:
        """Returns an action of the model for each observation."""
        if self.seed is None:
            return self._predict_batch(observations)
        actions: list[Any] = []
        for observation in observations:
            devices = [self._toolbox.device] if self._toolbox.device.type == "cuda" else []
            with torch.random.fork_rng(devices):
                torch.manual_seed(content_seed(self.seed, observation.image) + len(observation.used))
                actions += list(self._predict_batch([observation]))
        return actions

    def _predict_batch(self, observations: Sequence[Observation]) -> Sequence[Any]:
        masks: dict[str, NDArray[np.bool_]] = {}
        if self._supports_masks:
            masks["action_masks"] = np.stack(
                [observed_action_mask(self._toolbox, o, self._mask_upscale) for o in observations]
            )
        batch = self.encode_observations(observations)
        actions, _ = self.model.predict(batch, deterministic=self.deterministic, **masks)
        return actions

    @property
    def max_tools(self) -> int:
        """Maximum number of tools in a plan of the model."""
        return self._codec.max_tools

    def _steps_left(self, observation: Observation) -> int:
        return min(observation.steps_left, self._codec.max_tools - len(observation.used))

    def encode_observations(self, observations: Sequence[Observation]) -> Any:
        """Returns a batch of observations in the form of the model's observation space.

        Args:
            observations: Observations whose images may differ in size.

        Returns:
            For a ``Dict`` space, a dictionary of arrays with a leading dimension B: ``image`` and
            ``original`` uint8 (B, H, W, 3), ``steps_left`` int64 (B,), ``used`` int64 (B, max_tools).
            For an image space, the array of ``image`` alone.
        """
        keys = self._observation_spaces
        batch = {
            key: np.stack([self._encode_key(key, observation) for observation in observations])
            for key in keys
        }
        return batch if isinstance(self.model.observation_space, spaces.Dict) else batch["image"]

    def _encode_key(self, key: str, observation: Observation) -> NDArray[Any]:
        match key:
            case "image":
                return to_pixels(observation.image, self._obs_size)
            case "original":
                return to_pixels(observation.original, self._obs_size)
            case "used":
                return self._codec.encode(observation.used)
            case _:
                return np.asarray(self._steps_left(observation), np.int64)


def _observation_spaces(space: spaces.Space[Any]) -> dict[str, Any]:
    """Returns the space of each part of an observation by its key."""
    spaces_by_key: dict[str, Any] = (
        dict(space.items()) if isinstance(space, spaces.Dict) else {"image": space}
    )
    image = spaces_by_key.get("image")
    if (
        not set(spaces_by_key) <= set(_OBSERVATION_KEYS)
        or not isinstance(image, spaces.Box)
        or len(image.shape) != 3
    ):
        raise AgentError(
            f"expected a model that observes an image, or a Dict of {', '.join(_OBSERVATION_KEYS)}; "
            f"found {space}."
        )
    return spaces_by_key


def make_ppo(
    toolbox: Toolbox, path: Path | str = SHIPPED, deterministic: bool = True, seed: int = 0
) -> PredictAgent:
    """Makes the agent ``ppo``: a stepwise policy that ``opera_agents.ppo.train`` trained.

    Args:
        toolbox: The toolbox that the policy was trained for.
        path: Folder with ``agent.safetensors`` and ``agent.json``; by default the shipped policy, which
            is for the toolbox ``lite``. On the command line: ``--agents ppo:FOLDER``.
        deterministic: Whether the most probable tool is chosen instead of a sampled one.
        seed: Seed of sampled tools, which are a function of the seed and of the observation.

    Raises:
        MissingWeightsError: If the folder does not contain these files; the message names the command
            that trains a policy.
        AgentError: If the files belong to something else.
        ToolboxMismatchError: If the policy was trained for another toolbox.
    """
    return _predict_agent(*load_agent(Path(path)), toolbox, deterministic, seed)


def make_simplecall(
    toolbox: Toolbox, path: Path | str = SIMPLECALL, deterministic: bool = True, seed: int = 0
) -> PredictAgent:
    """Makes the agent ``simplecall``: the stepwise agent ``ppo``, rewarded without references and labels.

    Kept from the paper: one tool at a time from the current image, a policy that calls no language model,
    and training by PPO with gains of no-reference quality as the reward. Left out: the paper's networks;
    the reward is the critic, or any other preset that needs no reference. A warm start by imitation uses
    labels, so that policies with one are refused.

    Args:
        toolbox: The toolbox that the policy was trained for.
        path: Folder of the trained policy; on the command line ``simplecall:FOLDER``.
        deterministic: Whether the most probable tool is chosen instead of a sampled one.
        seed: Seed of sampled tools.

    Raises:
        MissingWeightsError: If the folder does not contain a policy; the message names the command that
            trains one.
        AgentError: If the policy was trained by a reward that needs references or is none of the presets,
            or with a warm start.
        ToolboxMismatchError: If the policy was trained for another toolbox.

    Source: SimpleCall, as section 5 of the paper compares with it.
    """
    policy, card = load_agent(Path(path), remedy=_SIMPLECALL_REMEDY)
    reward = REWARD_PRESETS.get(card.reward)  # a card is data: code that it names is never run
    metrics = [build_metric(str(term.metric)) for term in reward.terms] if reward else []
    has_warm_start = bool(card.training.get("warm_start_steps"))
    if reward is None or has_warm_start or any(metric.needs_reference for metric in metrics):
        found = f"one of the reward {shorten(card.reward, 80)}" + " and a warm start" * has_warm_start
        raise AgentError(
            f"expected a policy that was rewarded without references and labels, found {found}: use "
            f"ppo:{path}, or train one with {_SIMPLECALL_REMEDY}."
        )
    return _predict_agent(policy, card, toolbox, deterministic, seed)


def _predict_agent(
    policy: Any, card: AgentCard, toolbox: Toolbox, deterministic: bool, seed: int
) -> PredictAgent:
    """Wraps a policy that was loaded with its card."""
    return PredictAgent(
        policy.to(toolbox.device),
        toolbox,
        card.signature,
        card.mask_upscale,
        deterministic,
        None if deterministic else seed,
    )
