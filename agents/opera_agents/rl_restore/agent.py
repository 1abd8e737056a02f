"""The agent ``rl_restore``: the tool of the largest Q-value, one at a time."""

from __future__ import annotations

from pathlib import Path

from gymnasium import spaces
from stable_baselines3.dqn.policies import MultiInputPolicy

from opera_agents.ppo.agent import PredictAgent
from opera_agents.ppo.saved import AgentCard, load_agent
from opera_agents.rl_restore.features import policy_kwargs
from opera_env.tools import Toolbox

SHIPPED = Path(__file__).with_name("weights")
"""Folder of a policy that comes with the package."""

_REMEDY = (
    "python -m opera_agents.rl_restore.train --images DIR --out runs/rl_restore, and rl_restore:FOLDER"
)


def make_rl_restore(toolbox: Toolbox, path: Path | str = SHIPPED) -> PredictAgent:
    """Makes the agent ``rl_restore``, which :mod:`opera_agents.rl_restore.train` trained.

    Kept from the paper: deep Q-learning of one tool at a time from the current image, a recurrent state
    over the tools that were used, and STOP as an action. Left out: the joint training of agent and tools,
    and the state over past images. The recurrent state is a GRU over the used tools, which the observation
    contains; Stable-Baselines3 has no recurrent Q-learning.

    Args:
        toolbox: The toolbox that the policy was trained for.
        path: Folder with ``agent.safetensors`` and ``agent.json``; on the command line
            ``rl_restore:FOLDER``.

    Raises:
        MissingWeightsError: If the folder does not contain these files.
        AgentError: If the files belong to something else.
        ToolboxMismatchError: If the policy was trained for another toolbox.

    Source: Yu et al., Crafting a Toolchain for Image Restoration by Deep Reinforcement Learning, CVPR 2018.
    """
    policy, card = load_agent(Path(path), build_policy, _REMEDY)
    return PredictAgent(policy.to(toolbox.device), toolbox, card.signature, card.mask_upscale)


def build_policy(card: AgentCard) -> MultiInputPolicy:
    """Returns an untrained policy for a card."""
    return MultiInputPolicy(
        card.observation_space,
        spaces.Discrete(len(card.tools) + 1),
        lr_schedule=lambda _: 0.0,
        **policy_kwargs(),
    )
