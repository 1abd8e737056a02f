"""What the stepwise policy sees: the image through our encoder, the tools used and the steps left."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from opera_env.encoder import ImageEncoder


class StepwiseFeaturesExtractor(BaseFeaturesExtractor):
    """Turns stepwise observations into features, for the policy and the value alike.

    Stable-Baselines3 brings observations into this form: images transposed to (B, 3, H, W) and divided
    by 255, which must not happen twice; ``steps_left`` and each place of ``used`` one-hot.

    Args:
        observation_space: Of the stepwise game; ``original`` may be absent.
        original: Whether to look at the first image too, through the same encoder: twice the work.

    Attributes:
        encoder: How it sees.
    """

    def __init__(self, observation_space: spaces.Dict, original: bool = False) -> None:
        used, left = observation_space["used"], observation_space["steps_left"]
        assert isinstance(used, spaces.MultiDiscrete)
        assert isinstance(left, spaces.Discrete)
        self._places, self._actions = len(used.nvec), int(used.nvec[0])
        encoder = ImageEncoder()
        images = 2 if original else 1
        super().__init__(observation_space, images * encoder.features + self._actions - 1 + int(left.n))
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.features)  # or else the heads begin saturated
        self.original = original

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Returns features (B, features_dim)."""
        seen = [self.norm(self.encoder(observations["image"]))]
        if self.original:
            seen.append(self.norm(self.encoder(observations["original"])))
        used = observations["used"].unflatten(1, (self._places, self._actions))
        times = used.sum(1)[:, 1:]  # how often each tool was applied; the first column is STOP
        return torch.cat([*seen, times, observations["steps_left"].flatten(1)], dim=1)


def policy_kwargs(original: bool) -> dict[str, Any]:
    """Returns what the policy class of Stable-Baselines3 is made with, in training and after it."""
    return {
        "features_extractor_class": StepwiseFeaturesExtractor,
        "features_extractor_kwargs": {"original": original},
        "share_features_extractor": True,
        "net_arch": {"pi": [128], "vf": [128]},
    }
