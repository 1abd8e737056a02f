"""The features extractor: images are normalised once, uses and steps are counted, encoders are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sb3_contrib import MaskablePPO

from opera_agents.common.runs import load_encoder
from opera_agents.ppo.features import StepwiseFeaturesExtractor, policy_kwargs
from opera_agents.ppo.saved import AgentCard
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.encoder import Detector, ImageEncoder
from opera_env.errors import AgentError, MissingWeightsError

MakeEnvs = Callable[..., OperaVecEnv]


def make_model(envs: OperaVecEnv, observe_original: bool) -> MaskablePPO:
    return MaskablePPO(
        "MultiInputPolicy", envs, n_steps=2, device="cpu", policy_kwargs=policy_kwargs(observe_original)
    )


@pytest.mark.parametrize("observe_original", [False, True])
def test_images_are_encoded_from_0_to_1(observe_original: bool, make_envs: MakeEnvs) -> None:
    envs = make_envs("stepwise", exclude_keys=() if observe_original else ("original",))
    model = make_model(envs, observe_original)
    envs.seed(0)
    envs.reset()
    observations, *_ = envs.step(np.array([2, 3, 1, 2]))
    assert isinstance(observations, dict)
    tensors, _ = model.policy.obs_to_tensor(observations)
    features = model.policy.extract_features(tensors)
    assert isinstance(features, torch.Tensor)

    extractor = model.policy.features_extractor
    assert isinstance(extractor, StepwiseFeaturesExtractor)
    for position, key in enumerate(("image", "original") if observe_original else ("image",)):
        floats = torch.from_numpy(observations[key]).permute(0, 3, 1, 2).float() / 255
        assert floats.max() > 0.5
        expected = extractor.norm(extractor.encoder(floats))
        width = extractor.encoder.features_dim
        assert torch.equal(features[:, position * width : (position + 1) * width], expected)
    uses = features[:, -9:-4]  # Five tools; then steps_left from 0 to 3.
    assert torch.equal(uses, torch.eye(5)[torch.tensor([1, 2, 0, 1])])
    assert torch.equal(features[:, -4:], torch.eye(4)[torch.tensor([2, 2, 2, 2])])


def test_uses_of_each_tool_are_counted(make_envs: MakeEnvs) -> None:
    envs = make_envs("stepwise")
    model = make_model(envs, observe_original=False)
    envs.reset()
    envs.step(np.array([1, 1, 2, 5]))
    observations, *_ = envs.step(np.array([1, 2, 2, 4]))
    assert isinstance(observations, dict)
    features = model.policy.extract_features(model.policy.obs_to_tensor(observations)[0])
    assert isinstance(features, torch.Tensor)
    expected = [[2, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert features[:, -9:-4].tolist() == expected


def test_policy_and_value_function_share_the_encoder(make_envs: MakeEnvs) -> None:
    policy = make_model(make_envs("stepwise"), observe_original=False).policy
    assert policy.vf_features_extractor is policy.pi_features_extractor
    assert sum(isinstance(module, ImageEncoder) for module in policy.modules()) == 1


def test_the_card_has_the_observation_space_of_the_training(make_envs: MakeEnvs) -> None:
    envs = make_envs("stepwise", exclude_keys=("original",))
    model = make_model(envs, observe_original=False)
    toolbox = envs.toolbox
    card = AgentCard(toolbox.signature, toolbox.names, max_tools=3, obs_size=48)
    assert card.observation_space == model.observation_space
    assert card.build().state_dict().keys() == model.policy.state_dict().keys()


def test_encoder_weights_of_a_detector_are_loaded(make_envs: MakeEnvs, tmp_path: Path) -> None:
    """They are not overwritten by the orthogonal initialisation of Stable-Baselines3."""
    detector = Detector(8)
    save_file(
        {key: value.half() for key, value in detector.state_dict().items()},
        tmp_path / "detector.safetensors",
    )
    policy = make_model(make_envs("stepwise"), observe_original=False).policy
    load_encoder(policy.features_extractor.encoder, tmp_path / "detector.safetensors")
    features = policy.features_extractor
    assert isinstance(features, StepwiseFeaturesExtractor)
    for key, value in features.encoder.state_dict().items():
        assert torch.equal(value, detector.encoder.state_dict()[key].half().float())


def test_files_without_an_encoder_raise(make_envs: MakeEnvs, tmp_path: Path) -> None:
    policy = make_model(make_envs("stepwise"), observe_original=False).policy
    save_file({"head.weight": torch.zeros(2)}, tmp_path / "head.safetensors")
    with pytest.raises(AgentError, match="encoder"):
        load_encoder(policy.features_extractor.encoder, tmp_path / "head.safetensors")
    with pytest.raises(MissingWeightsError):
        load_encoder(policy.features_extractor.encoder, tmp_path / "absent.safetensors")
