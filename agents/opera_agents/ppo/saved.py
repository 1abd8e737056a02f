"""A trained stepwise policy as two files: weights in fp16, and a card that says what it was trained for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from opera_agents.ppo.features import policy_kwargs
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError
from opera_env.files import atomic_write
from opera_env.json_files import read_object
from opera_env.tools import Toolbox
from opera_env.weights.checkpoints import load_as_float32, save_half

WEIGHTS, CARD = "agent.safetensors", "agent.json"

_NOT_SAVED = ("pi_features_extractor.", "vf_features_extractor.", "q_net_target.")
"""Further names of the shared features extractor, whose weights are saved once, and the target network of
Q-learning, which no agent needs."""

_REMEDY = "python -m opera_agents.ppo.train --images DIR --out runs/ppo"

Build = Callable[["AgentCard"], BasePolicy]
"""Makes an untrained policy for a card."""


@dataclass(frozen=True)
class AgentCard:
    """What a policy was trained for, and how.

    Attributes:
        signature: Signature of the toolbox.
        tools: Names of the tools in the order of the actions.
        max_tools: Maximum number of tools in a plan.
        obs_size: Side of the observed images in pixels.
        observe_original: Whether the policy observes the image before the first tool too.
        mask_upscale: Whether upscaling tools were forbidden once the image filled its canvas.
        reward: Name of the reward that it was trained to maximise.
        training: Settings of the training, its cost and its last validation.
    """

    signature: str
    tools: tuple[str, ...]
    max_tools: int = 6
    obs_size: int = 128
    observe_original: bool = False
    mask_upscale: bool = False
    reward: str = "lite"
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def observation_space(self) -> spaces.Dict:
        """The observation space after Stable-Baselines3's preprocessing: images are (3, H, W)."""
        image = spaces.Box(0, 255, (3, self.obs_size, self.obs_size), np.uint8)
        spaces_by_key: dict[str, spaces.Space[Any]] = {
            "image": image,
            "steps_left": spaces.Discrete(self.max_tools + 1),
            "used": spaces.MultiDiscrete([len(self.tools) + 1] * self.max_tools),
        }
        return spaces.Dict(spaces_by_key | ({"original": image} if self.observe_original else {}))

    def check(self, toolbox: Toolbox, max_tools: int, observe_original: bool) -> None:
        """Checks that a run can start from the policy.

        Args:
            toolbox: The tools of the run.
            max_tools: Maximum number of tools in a plan of the run.
            observe_original: Whether the run observes the image before the first tool too.

        Raises:
            ToolboxMismatchError: If the policy was trained for other tools.
            AgentError: If it was trained for other plans or observations.
        """
        if toolbox.signature != self.signature:
            raise ToolboxMismatchError(
                f"the policy of --initial-weights was trained for the tools {', '.join(self.tools)} "
                f"(signature {self.signature}), but the toolbox has {', '.join(toolbox.names)} (signature "
                f"{toolbox.signature}): choose a policy for this toolbox, or leave out --initial-weights."
            )
        if (self.max_tools, self.observe_original) != (max_tools, observe_original):
            raise AgentError(
                f"the policy of --initial-weights was trained with --max-tools {self.max_tools} and "
                f"{'' if self.observe_original else 'without '}--observe-original: use the same."
            )

    def build(self) -> MaskableMultiInputActorCriticPolicy:
        """Returns an untrained policy with these spaces."""
        return MaskableMultiInputActorCriticPolicy(
            self.observation_space,
            spaces.Discrete(len(self.tools) + 1),
            lr_schedule=lambda _: 0.0,
            **policy_kwargs(self.observe_original),
        )


def save_agent(policy: nn.Module, card: AgentCard, folder: Path) -> None:
    """Writes ``agent.safetensors`` and ``agent.json``; each file is written atomically."""
    state = policy.state_dict()
    save_half({key: state[key] for key in state if not key.startswith(_NOT_SAVED)}, folder / WEIGHTS)
    with atomic_write(folder / CARD) as partial:
        partial.write_text(json.dumps(asdict(card), indent=2) + "\n")


def load_agent(
    folder: Path, build: Build = AgentCard.build, remedy: str = _REMEDY
) -> tuple[BasePolicy, AgentCard]:
    """Reads the files that :func:`save_agent` wrote.

    Args:
        folder: The folder.
        build: Makes the policy; by default that of PPO.
        remedy: The command that trains such an agent.

    Raises:
        MissingWeightsError: If a file is absent.
        WeightsIntegrityError: If the weights are damaged.
        AgentError: If a file is not one of a stepwise agent.
    """
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise MissingWeightsError("a trained stepwise agent", folder / name, remedy)
    data = read_object(folder / CARD, AgentError, "Train the agent again, or get a new copy of its folder.")
    card = AgentCard(
        signature=data.text("signature"),
        tools=data.names("tools"),
        max_tools=data.integer("max_tools", 1, 64, default=6),
        obs_size=data.integer("obs_size", 1, 1024, default=128),
        observe_original=data.flag("observe_original", default=False),
        mask_upscale=data.flag("mask_upscale", default=False),
        reward=data.text("reward", default="lite"),
        training=data.mapping("training", default={}),
    )
    with torch.random.fork_rng(devices=[]):  # The initial weights, drawn here, are replaced below.
        policy = build(card)
    weights = load_as_float32(folder / WEIGHTS)
    try:
        incompatible = policy.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        reason = shorten(str(error), 300)
        raise AgentError(f"{folder / WEIGHTS}: not the weights of this policy ({reason}).") from error
    missing = [key for key in incompatible.missing_keys if not key.startswith(_NOT_SAVED)]
    if missing or incompatible.unexpected_keys:
        raise AgentError(
            f"{folder / WEIGHTS}: not the weights of the policy that {CARD} describes; "
            f"missing {missing[:3]}, unexpected {incompatible.unexpected_keys[:3]}."
        )
    policy.set_training_mode(False)
    return policy, card
