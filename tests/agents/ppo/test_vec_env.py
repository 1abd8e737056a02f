"""``OperaVecEnv`` behaves as the vector environment it wraps and as Stable-Baselines3 expects."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import check_for_nested_spaces
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecTransposeImage

from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.envs.vector import RestoreVectorEnv

both = pytest.mark.parametrize("env_kind", ["one-shot", "stepwise"])
MakeEnvs = Callable[..., OperaVecEnv]


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return bool(np.array_equal(left, right))


def draw_actions(envs: OperaVecEnv, rng: np.random.Generator) -> np.ndarray:
    space = envs.action_space
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=envs.num_envs)
    assert isinstance(space, spaces.MultiDiscrete)
    return rng.integers(space.nvec, size=(envs.num_envs, len(space.nvec)))


@both
def test_steps_equal_those_of_the_vector_environment(
    env_kind: str, make_envs: MakeEnvs, make_vector_env: Callable[..., RestoreVectorEnv]
) -> None:
    envs, native = make_envs(env_kind), make_vector_env(env_kind)
    envs.seed(3)
    observations, (expected, _) = envs.reset(), native.reset(seed=3)
    assert equal(observations, expected)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(8):
        actions = draw_actions(envs, rng)
        observations, rewards, dones, infos = envs.step(actions)
        expected, expected_rewards, terminated, _, vector_infos = native.step(actions)
        assert equal(observations, expected)
        assert rewards.dtype == np.float32
        assert np.array_equal(rewards, expected_rewards.astype(np.float32))
        assert dones.dtype == np.bool_
        assert np.array_equal(dones, terminated)
        for index, info in enumerate(infos):
            assert info["TimeLimit.truncated"] is False
            assert ("terminal_observation" in info) == ("episode" in info) == bool(dones[index])
            if dones[index]:
                ended += 1
                assert equal(info["terminal_observation"], vector_infos["final_obs"][index])
                assert info["plan"] == vector_infos["final_info"]["plan"][index]
                assert info["r_q"] == vector_infos["final_info"]["r_q"][index]
    assert ended


@both
def test_equal_seeds_give_equal_episodes(env_kind: str, make_envs: MakeEnvs) -> None:
    envs = make_envs(env_kind)
    envs.seed(5)
    first = envs.reset()
    assert not equal(first, envs.reset())
    envs.seed(5)
    assert equal(first, envs.reset())


def test_groups_share_images_and_seeds(make_envs: MakeEnvs) -> None:
    envs = make_envs("one-shot", group_size=2)
    assert envs.seed(1) == [1, 1, 2, 2]
    observations = envs.reset()
    assert isinstance(observations, np.ndarray)
    assert np.array_equal(observations[0], observations[1])
    assert not np.array_equal(observations[1], observations[2])


def test_options_are_used_for_one_reset(make_envs: MakeEnvs) -> None:
    envs = make_envs("one-shot")
    sample = envs.envs.rules.source.draw(np.random.default_rng(0))
    envs.set_options({"sample": sample})
    observations = envs.reset()
    assert isinstance(observations, np.ndarray)
    assert (observations == observations[0]).all()
    other_observations = envs.reset()
    assert isinstance(other_observations, np.ndarray)
    assert not (other_observations == other_observations[0]).all()
    envs.set_options([{"sample": sample}, {}, {}, {}])
    with pytest.raises(ValueError, match="same options"):
        envs.reset()


@pytest.mark.filterwarnings("ignore:The environment is already wrapped")
def test_episodes_report_as_vec_monitor_does(make_envs: MakeEnvs) -> None:
    monitored_envs, plain_envs = VecMonitor(make_envs("stepwise")), make_envs("stepwise")
    for envs in (monitored_envs, plain_envs):
        envs.seed(0)
        envs.reset()
    num_episodes = 0
    for actions in ([1, 0, 2, 3], [1, 1, 0, 2], [1, 2, 2, 1], [0, 0, 1, 1]):
        infos = [envs.step(np.array(actions))[3] for envs in (monitored_envs, plain_envs)]
        for monitored, own in zip(*infos, strict=True):
            assert ("episode" in monitored) == ("episode" in own)
            if "episode" in own:
                num_episodes += 1
                assert own["episode"]["l"] == monitored["episode"]["l"]
                assert own["episode"]["r"] == pytest.approx(monitored["episode"]["r"], abs=1e-5)
                assert own["episode"]["t"] > 0
    assert num_episodes >= 4


def test_the_return_is_the_gain_of_r_q_less_tool_cost(make_envs: MakeEnvs) -> None:
    envs = make_envs("stepwise", tool_cost=0.25)
    envs.seed(0)
    envs.reset()
    untouched = [info["r_q"] for info in envs.reset_infos]
    envs.step(np.full(4, 3))
    _, _, dones, infos = envs.step(np.zeros(4, np.int64))
    assert dones.all()
    for before, info in zip(untouched, infos, strict=True):
        episode = info["episode"]
        assert episode["r"] == pytest.approx(info["r_q"] - before - 0.25, abs=1e-5)
        assert (episode["r_q"], episode["tools"], episode["l"]) == (info["r_q"], 1, 2)
        assert set(episode["terms"]) == {"psnr_y", "ssim_y", "gmsd"}
        assert sum(episode["terms"].values()) == pytest.approx(episode["r_q"])


@both
def test_infos_are_small(env_kind: str, make_envs: MakeEnvs) -> None:
    envs = make_envs(env_kind)
    envs.reset()
    _, _, _, infos = envs.step(np.zeros_like(draw_actions(envs, np.random.default_rng(0))))
    small = [{key: value for key, value in info.items() if key != "terminal_observation"} for info in infos]
    assert len(pickle.dumps(small)) < 4_000


def test_keys_of_the_observation_can_be_excluded(make_envs: MakeEnvs) -> None:
    envs = make_envs("stepwise", exclude_keys=("original",))
    remaining_keys = {"image", "steps_left", "used"}
    assert isinstance(envs.observation_space, spaces.Dict)
    assert set(envs.observation_space.keys()) == remaining_keys
    observations = envs.reset()
    assert isinstance(observations, dict)
    assert observations.keys() == remaining_keys
    _, _, _, infos = envs.step(np.zeros(4, np.int64))
    assert infos[0]["terminal_observation"].keys() == remaining_keys
    with pytest.raises(ValueError, match="unknown"):
        make_envs("stepwise", exclude_keys=("unknown",))
    with pytest.raises(ValueError, match="image"):
        make_envs("one-shot", exclude_keys=("image",))


def test_action_masks_are_those_of_the_vector_environment(make_envs: MakeEnvs) -> None:
    envs = make_envs("stepwise", mask_upscale=True)
    assert is_masking_supported(envs)
    envs.seed(0)
    envs.reset()
    upscaling_allowed = set()
    for _ in range(3):
        masks = get_action_masks(envs)
        assert np.array_equal(masks, envs.envs.action_masks())  # pyright: ignore
        assert np.array_equal(envs.env_method("action_masks", indices=[2])[0], masks[2])
        assert np.array_equal(get_action_masks(VecTransposeImage(envs)), masks)
        upscaling_allowed.update(masks[:, 4].tolist())  # tiny.enlarge
        envs.step(np.where(masks[:, 4], 4, 5))
    assert upscaling_allowed == {True, False}


def test_the_one_shot_environment_has_no_masks(make_envs: MakeEnvs) -> None:
    envs = make_envs("one-shot")
    assert not is_masking_supported(envs)
    with pytest.raises(AttributeError):
        envs.env_method("action_masks")


@both
def test_attributes_are_shared_by_all_sub_environments(env_kind: str, make_envs: MakeEnvs) -> None:
    envs = make_envs(env_kind)
    assert envs.get_attr("group_size") == [1, 1, 1, 1]
    assert envs.get_attr("toolbox", indices=[0, 2]) == [envs.envs.toolbox] * 2
    assert envs.get_attr("render_mode", indices=1) == [None]
    assert not envs.has_attr("unknown_attribute")
    envs.set_attr("spec", "own")
    assert envs.get_attr("spec") == ["own"] * 4
    with pytest.raises(ValueError, match="share the attribute"):
        envs.set_attr("spec", "own", indices=[1])


@both
def test_other_methods_of_the_interface(env_kind: str, make_envs: MakeEnvs) -> None:
    envs = make_envs(env_kind)
    check_for_nested_spaces(envs.observation_space)
    assert envs.env_is_wrapped(Monitor) == [True] * 4
    assert envs.env_is_wrapped(gym.wrappers.TimeLimit, indices=[0]) == [False]
    assert envs.unwrapped is envs
    assert list(envs.get_images()) == [None] * 4
    envs.seed()
    envs.reset()
    assert len(envs.reset_infos) == 4
    assert envs.reset_infos[0]["plan"] == ()
    envs.step(np.zeros_like(draw_actions(envs, np.random.default_rng(0))))
    envs.close()


@pytest.mark.filterwarnings("error")
@both
def test_models_learn_and_are_evaluated(env_kind: str, make_envs: MakeEnvs) -> None:
    envs = VecCheckNan(make_envs(env_kind, obs_size=36), raise_exception=True)
    options = {"net_arch": [8]}
    if env_kind == "one-shot":
        options["features_extractor_kwargs"] = {"features_dim": 8}
    policy = "CnnPolicy" if env_kind == "one-shot" else "MultiInputPolicy"
    model_class = PPO if env_kind == "one-shot" else MaskablePPO
    model = model_class(
        policy, envs, n_steps=4, batch_size=8, n_epochs=1, device="cpu", seed=0, policy_kwargs=options
    )
    model.learn(32)
    assert model.num_timesteps == 32
    assert model.ep_info_buffer
    rewards, lengths = evaluate_policy(model, envs, n_eval_episodes=6, return_episode_rewards=True)
    assert isinstance(lengths, list)
    assert len(lengths) == 6
    assert max(lengths) <= 3
    assert np.isfinite(rewards).all()
