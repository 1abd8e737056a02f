"""Features of the Q-network: the encoded image, and a recurrent state over the tools that were used."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from opera_env.encoder import ImageEncoder

_STATE_DIM = 64


class RecurrentFeaturesExtractor(BaseFeaturesExtractor):
    """Turns stepwise observations into features: image, state of a GRU over the used tools, steps left.

    The observation contains all tools of the episode in order, so the recurrent state is a function of the
    observation, and transitions can be replayed one by one.

    Args:
        observation_space: Observation space of a stepwise environment, without ``original``.

    Attributes:
        encoder: The image encoder.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        used, steps_left = observation_space["used"], observation_space["steps_left"]
        assert isinstance(used, spaces.MultiDiscrete) and isinstance(steps_left, spaces.Discrete)
        encoder = ImageEncoder()
        super().__init__(observation_space, encoder.features_dim + _STATE_DIM + int(steps_left.n))
        self._max_tools, self._num_actions = len(used.nvec), int(used.nvec[0])
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.features_dim)
        self.history = nn.GRU(self._num_actions - 1, _STATE_DIM, batch_first=True)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Returns features (B, features_dim)."""
        image = self.norm(self.encoder(observations["image"]))
        used = observations["used"].unflatten(1, (self._max_tools, self._num_actions))
        tools = used[:, :, 1:]  # one-hot; the first column is STOP, which fills the places after the plan
        states, _ = self.history(tools)
        states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)  # before the first tool
        lengths = tools.sum((1, 2)).long()
        state = states[torch.arange(len(states), device=states.device), lengths]
        return torch.cat([image, state, observations["steps_left"].flatten(1)], dim=1)


def policy_kwargs() -> dict[str, Any]:
    """Returns the keyword arguments of the policy class, the same in training and when it is loaded."""
    return {"features_extractor_class": RecurrentFeaturesExtractor, "net_arch": [128]}
