"""Features of the stepwise policy: the encoded image, the number of uses of each tool, the steps left."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from opera_env.encoder import ImageEncoder


class StepwiseFeaturesExtractor(BaseFeaturesExtractor):
    """Turns stepwise observations into features that the policy and the value function share.

    Stable-Baselines3 preprocesses the observations: images arrive as float32 (B, 3, H, W) in [0, 1], so
    they must not be normalised again; ``steps_left`` and each position of ``used`` arrive one-hot.

    Args:
        observation_space: Observation space of a stepwise environment; the key ``original`` may be absent.
        observe_original: Whether the image before the first tool is encoded too. The same encoder is
            used, so that the cost doubles.

    Attributes:
        encoder: The image encoder.
    """

    def __init__(self, observation_space: spaces.Dict, observe_original: bool = False) -> None:
        used, steps_left = observation_space["used"], observation_space["steps_left"]
        assert isinstance(used, spaces.MultiDiscrete)
        assert isinstance(steps_left, spaces.Discrete)
        self._max_tools, self._num_actions = len(used.nvec), int(used.nvec[0])
        encoder = ImageEncoder()
        images = 2 if observe_original else 1
        super().__init__(
            observation_space, images * encoder.features_dim + self._num_actions - 1 + int(steps_left.n)
        )
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.features_dim)  # Without it the heads start saturated.
        self.observe_original = observe_original

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Returns features (B, features_dim)."""
        features = [self.norm(self.encoder(observations["image"]))]
        if self.observe_original:
            features.append(self.norm(self.encoder(observations["original"])))
        used = observations["used"].unflatten(1, (self._max_tools, self._num_actions))
        uses = used.sum(1)[:, 1:]  # Number of uses of each tool; the first column is STOP.
        return torch.cat([*features, uses, observations["steps_left"].flatten(1)], dim=1)


def policy_kwargs(observe_original: bool) -> dict[str, Any]:
    """Returns the keyword arguments of the policy class, the same in training and when it is loaded."""
    return {
        "features_extractor_class": StepwiseFeaturesExtractor,
        "features_extractor_kwargs": {"observe_original": observe_original},
        "share_features_extractor": True,
        "net_arch": {"pi": [128], "vf": [128]},
    }
