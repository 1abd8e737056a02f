"""Stable-Baselines3 models, and anything with their ``predict``, as agents of this world."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from opera_agents.ppo.saved import load_agent
from opera_env.envs.observation import to_pixels
from opera_env.errors import AgentError, ToolboxMismatchError
from opera_env.plan import PlanCodec
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation

SHIPPED = Path(__file__).with_name("weights")
"""The policy that comes with the package, for the toolbox ``lite``."""

_PARTS = ("image", "original", "steps_left", "used")


class Predictor(Protocol):
    """What Stable-Baselines3's models and policies have in common."""

    @property
    def observation_space(self) -> Any: ...

    @property
    def action_space(self) -> Any: ...

    @property
    def predict(self) -> Any: ...


class PredictAgent:
    """Lets a model with ``predict(observation, deterministic)`` play.

    Observations are built as its observation space says: the image, or a Dict of any of ``image``,
    ``original``, ``steps_left`` and ``used``. A ``MultiDiscrete`` action is a whole plan; a ``Discrete``
    one is the next tool, and the model is asked again after it.

    Args:
        model: A model, or its policy.
        toolbox: The tools it was trained for.
        signature: Of the toolbox it was trained for, if that is known.
        mask_upscale: Forbid a second enlarging tool, to a model that takes ``action_masks``. Whether the
            image was small to begin with cannot be seen, so the first one stays allowed.

    Raises:
        ToolboxMismatchError: If it was trained for other tools.
        AgentError: If its spaces are not those of this world.
    """

    def __init__(
        self,
        model: Predictor,
        toolbox: Toolbox,
        signature: str | None = None,
        mask_upscale: bool = False,
    ) -> None:
        space = model.action_space
        if isinstance(space, spaces.Discrete):
            actions = {int(space.n)}
        elif isinstance(space, spaces.MultiDiscrete):
            actions = {int(n) for n in space.nvec}
        else:
            raise AgentError(f"expected a model with Discrete or MultiDiscrete actions, found {space}.")
        if signature not in (None, toolbox.signature) or actions != {len(toolbox) + 1}:
            raise ToolboxMismatchError(
                f"the agent was trained for {', '.join(str(n - 1) for n in sorted(actions))} tools"
                f"{f' of signature {signature}' if signature else ''}, and the toolbox has {len(toolbox)}: "
                f"{', '.join(toolbox.names)} ({toolbox.signature}). Use the toolbox it was trained for, or "
                "train it again for this one."
            )
        self.model = model
        self.closed_loop = isinstance(space, spaces.Discrete)
        self._parts = _parts(model.observation_space)
        self._obs_size = int(self._parts["image"].shape[1])  # (H, W, 3) or (3, H, W), and square
        self._codec = PlanCodec(toolbox.names, self._longest(space))
        self._enlarging = frozenset(tool.name for tool in toolbox if tool.scale > 1)
        self._masks = self.closed_loop and "action_masks" in inspect.signature(model.predict).parameters
        self._mask_upscale = mask_upscale

    def _longest(self, space: spaces.Space[Any]) -> int:
        """The longest plan the model knows of; one that sees only the image knows no end."""
        if isinstance(space, spaces.MultiDiscrete):
            return len(space.nvec)
        if "used" in self._parts:
            return len(self._parts["used"].nvec)
        return int(self._parts["steps_left"].n) - 1 if "steps_left" in self._parts else sys.maxsize

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        going = [index for index, seen in enumerate(observations) if self._steps_left(seen) > 0]
        decisions = [Decision(())] * len(observations)
        if not going:
            return decisions
        asked = [observations[index] for index in going]
        masks = {"action_masks": self._allowed(asked)} if self._masks else {}
        actions, _ = self.model.predict(self.encode_observations(asked), deterministic=True, **masks)
        for index, action in zip(going, actions, strict=True):
            plan = self._codec.decode_tool(action) if self.closed_loop else self._codec.decode(action)
            decisions[index] = Decision(plan[: observations[index].steps_left])
        return decisions

    @property
    def longest(self) -> int:
        """The longest plan the model knows of."""
        return self._codec.max_tools

    def _steps_left(self, observation: Observation) -> int:
        return min(observation.steps_left, self._codec.max_tools - len(observation.used))

    def encode_observations(self, observations: Sequence[Observation]) -> Any:
        """Returns a batch of observations as the model knows them."""
        batch = {key: np.stack([self._part(key, one) for one in observations]) for key in self._parts}
        return batch if isinstance(self.model.observation_space, spaces.Dict) else batch["image"]

    def _part(self, key: str, observation: Observation) -> NDArray[Any]:
        match key:
            case "image":
                return to_pixels(observation.image, self._obs_size)
            case "original":
                return to_pixels(observation.original, self._obs_size)
            case "used":
                return self._codec.encode(observation.used)
            case _:
                return np.asarray(self._steps_left(observation), np.int64)

    def _allowed(self, observations: Sequence[Observation]) -> NDArray[np.bool_]:
        """Returns the masks, bool (B, N + 1)."""
        names = self._codec.names
        masks = np.ones((len(observations), len(names) + 1), np.bool_)
        if self._mask_upscale:
            for mask, observation in zip(masks, observations, strict=True):
                if self._enlarging.intersection(observation.used):
                    mask[1:] = [name not in self._enlarging for name in names]
        return masks


def _parts(space: spaces.Space[Any]) -> dict[str, Any]:
    """Returns the spaces of what is observed, by name."""
    parts: dict[str, Any] = dict(space.items()) if isinstance(space, spaces.Dict) else {"image": space}
    image = parts.get("image")
    if not set(parts) <= set(_PARTS) or not isinstance(image, spaces.Box) or len(image.shape) != 3:
        raise AgentError(
            f"expected a model that observes an image, or a Dict of {', '.join(_PARTS)}; found {space}."
        )
    return parts


def load_ppo(folder: Path | str, toolbox: Toolbox) -> PredictAgent:
    """Returns the agent that ``opera_agents.ppo.train`` wrote into a folder.

    Raises:
        MissingWeightsError: If it is not there.
        AgentError: If the files are something else.
        ToolboxMismatchError: If it was trained for other tools.
    """
    policy, card = load_agent(Path(folder))
    return PredictAgent(policy.to(toolbox.device), toolbox, card.signature, card.mask_upscale)


def make_ppo(toolbox: Toolbox, weights: Path | str = SHIPPED) -> PredictAgent:
    """Makes the agent ``ppo``: the shipped one, or the one in a folder; see :func:`load_ppo`."""
    return load_ppo(weights, toolbox)
