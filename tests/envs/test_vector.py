"""Vector environments: sub-environment i equals the single environment with seed + i."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded, UnsupportedMode
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from PIL import Image

from opera_env.data import Source
from opera_env.envs.vector import RestoreVectorEnv, StepwiseVectorEnv
from opera_env.errors import (
    EnvArgumentError,
    PlanParseError,
    RewardError,
    ToolboxMismatchError,
    ToolFailedError,
)
from opera_env.reward import Reward, RewardTerm
from opera_env.tools import Toolbox
from opera_env.types import Sample

MakeEnv = Callable[..., gym.Env[Any, Any]]
VECTORS = {"OPERA-Restore-v0": RestoreVectorEnv, "OPERA-RestoreStepwise-v0": StepwiseVectorEnv}
environments = pytest.mark.parametrize("name", VECTORS)

TOLERANCES = {"restored": 1, "observation": 1, "reward": 0.02, "metrics": 0.5}
"""Differences that batching may cause (decision 5): grey levels, R_q and metric values."""


@pytest.fixture
def make_vector(make_toolbox: Callable[[], Toolbox], source: Source) -> Callable[..., RestoreVectorEnv]:
    def make(name: str = "OPERA-Restore-v0", **options: Any) -> RestoreVectorEnv:
        config = {"reward": "classic", "source": source, "max_tools": 3, "obs_size": 64, "num_envs": 4}
        return VECTORS[name](**({"toolbox": make_toolbox()} | config | options))

    return make


def assert_alike(ours: Any, theirs: Any, where: str = "info") -> None:
    """Compares infos key by key: exactly, or within the tolerances of batching."""
    assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key in theirs:
            assert_alike(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, Image.Image):
        assert ours.size == theirs.size, where
        assert_alike(np.asarray(ours), np.asarray(theirs), f"{where}.image")
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        assert ours.dtype == object and len(ours) == len(theirs), where
        for index, (first, second) in enumerate(zip(ours, theirs, strict=True)):
            assert_alike(first, second, f"{where}[{index}]")
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, where
        moves = TOLERANCES["restored"] if theirs.dtype == np.uint8 else 0.0
        moves = TOLERANCES["metrics"] if ".metrics." in where else moves
        moves = TOLERANCES["reward"] if ".terms." in where or where.endswith(".r_q") else moves
        distance = np.abs(ours.astype(float) - theirs.astype(float))
        assert distance.max(initial=0) <= moves, where
    else:
        assert ours == theirs, where


def compare_steps(vector: RestoreVectorEnv, sync: SyncVectorEnv[Any, Any], seed: int, steps: int) -> int:
    """Takes the same steps in both and compares them; returns the number of episodes that ended."""
    starts = [env.reset(seed=seed) for env in (vector, sync)]
    assert_alike(starts[0][1], starts[1][1])
    assert_alike({"obs": starts[0][0]}, {"obs": starts[1][0]})
    sync.action_space.seed(seed)
    ended = 0
    for _ in range(steps):
        actions = sync.action_space.sample()
        ours, theirs = vector.step(actions), sync.step(actions)
        assert_alike({"obs": ours[0]}, {"obs": theirs[0]})
        assert ours[1].dtype == theirs[1].dtype
        assert np.allclose(ours[1], theirs[1], rtol=0, atol=TOLERANCES["reward"])
        assert np.array_equal(ours[2], theirs[2]) and np.array_equal(ours[3], theirs[3])
        assert_alike(ours[4], theirs[4])
        ended += int(ours[2].sum())
    return ended


@environments
def test_sub_environments_are_single_environments(
    make_vector: Callable[..., RestoreVectorEnv], make_env: MakeEnv, name: str
) -> None:
    """Observations, rewards, termination and info, through several autoresets."""
    options = {"tool_cost": 0.1, "num_envs": 4}
    vector = make_vector(name, **options)
    del options["num_envs"]
    sync = SyncVectorEnv([lambda: make_env(name, **options)] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    assert vector.single_observation_space == sync.single_observation_space
    assert vector.observation_space == sync.observation_space
    assert vector.single_action_space == sync.single_action_space
    assert vector.action_space == sync.action_space
    assert vector.metadata["autoreset_mode"] == sync.metadata["autoreset_mode"]
    assert compare_steps(vector, sync, seed=3, steps=4) >= 4


@pytest.mark.needs_weights("lpips")
@environments
def test_sub_environments_of_the_default_environment(make_env: MakeEnv, source: Source, name: str) -> None:
    options = {"toolbox": "lite", "reward": "lite", "source": source, "obs_size": 64, "max_tools": 2}
    vector = VECTORS[name](num_envs=2, **options)
    sync = SyncVectorEnv([lambda: make_env(name, **options)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    compare_steps(vector, sync, seed=0, steps=2)


@environments
def test_images_of_several_sizes_in_one_batch(
    make_vector: Callable[..., RestoreVectorEnv], make_env: MakeEnv, photos: Any, name: str
) -> None:
    from opera_env.data import photographs

    options = {"source": photographs(photos), "reward": "label_free"}
    vector = make_vector(name, **options)
    sync = SyncVectorEnv([lambda: make_env(name, **options)] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    compare_steps(vector, sync, seed=0, steps=2)


@environments
def test_equal_seeds_give_equal_episodes(make_vector: Callable[..., RestoreVectorEnv], name: str) -> None:
    first, second = make_vector(name), make_vector(name)
    starts = [env.reset(seed=5) for env in (first, second)]
    assert_alike(starts[0][1], starts[1][1])
    first.action_space.seed(0)
    for _ in range(3):
        actions = first.action_space.sample()
        ours, theirs = first.step(actions), second.step(actions)
        assert np.array_equal(ours[1], theirs[1])
        assert_alike(ours[4], theirs[4])


@environments
def test_members_of_a_group_receive_the_same_image(
    make_vector: Callable[..., RestoreVectorEnv], name: str
) -> None:
    """Equal actions in a group also have equal rewards, to the last bit, and after autoresets."""
    vector = make_vector(name, num_envs=6, group_size=3)
    _, infos = vector.reset(seed=2)
    step = np.array([[3, 1, 0]] * 6) if name == "OPERA-Restore-v0" else np.array([3] * 6)
    stop = np.zeros_like(step)
    for actions in (step, stop, step, stop):
        specs = [list(infos["sample"]["seed"][group * 3 : group * 3 + 3]) for group in (0, 1)]
        assert len(set(specs[0])) == len(set(specs[1])) == 1
        assert specs[0] != specs[1]
        _, rewards, _, _, infos = vector.step(actions)
        assert len(set(rewards[:3])) == len(set(rewards[3:])) == 1


def test_a_group_has_one_seed(make_vector: Callable[..., RestoreVectorEnv], make_env: MakeEnv) -> None:
    """Group g equals the single environment with seed + g."""
    observations, _ = make_vector(num_envs=4, group_size=2).reset(seed=7)
    single = make_env()
    for index in range(4):
        assert np.array_equal(observations[index], single.reset(seed=7 + index // 2)[0])


def test_a_group_makes_its_sample_once(make_vector: Callable[..., RestoreVectorEnv]) -> None:
    vector = make_vector(num_envs=4, group_size=4)
    vector.reset(seed=0)
    vector.step(np.array([[3, 0, 0], [3, 0, 0], [3, 1, 0], [3, 2, 0]]))
    assert vector.rules.scorer.images_scored == 3
    assert vector.rules.scorer.tools_run == 3


def test_a_list_of_seeds(make_vector: Callable[..., RestoreVectorEnv], make_env: MakeEnv) -> None:
    vector = make_vector(num_envs=3)
    observations, _ = vector.reset(seed=[4, 9, 4])
    single = make_env()
    for observation, seed in zip(observations, (4, 9, 4), strict=True):
        assert np.array_equal(observation, single.reset(seed=seed)[0])
    with pytest.raises(ValueError, match="one seed or 3"):
        vector.reset(seed=[1, 2])
    assert vector.reset(seed=[1, None, 2])[0].shape == (3, 64, 64, 3)


def test_reset_without_seed_continues_the_generators(make_vector: Callable[..., RestoreVectorEnv]) -> None:
    vector = make_vector()
    first, _ = vector.reset(seed=1)
    second, _ = vector.reset()
    again, _ = vector.reset(seed=1)
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    assert np.array_equal(second, vector.reset()[0])


def test_without_any_seed_samples_differ(make_vector: Callable[..., RestoreVectorEnv]) -> None:
    _, first = make_vector().reset()
    _, second = make_vector().reset()
    assert len({*first["sample"]["seed"], *second["sample"]["seed"]}) == 8


@environments
def test_all_sub_environments_start_from_one_sample(
    make_vector: Callable[..., RestoreVectorEnv], samples: list[Sample], name: str
) -> None:
    vector = make_vector(name)
    for sample in (samples[1].spec, samples[1].spec.to_json()):
        _, infos = vector.reset(seed=0, options={"sample": sample})
        assert set(infos["sample"]["seed"]) == {samples[1].spec.seed}
    drawn = [vector.reset(seed=3, options=options)[1]["sample"]["seed"] for options in ({}, None)]
    assert np.array_equal(*drawn) and len(set(drawn[0])) == 4


def test_action_masks(make_vector: Callable[..., RestoreVectorEnv], samples: list[Sample]) -> None:
    vector = make_vector("OPERA-RestoreStepwise-v0", num_envs=2, mask_upscale=True)
    assert isinstance(vector, StepwiseVectorEnv)
    small = next(sample for sample in samples if sample.lq.shape[-1] == 16)
    vector.reset(options={"sample": small.spec})
    masks = vector.action_masks()
    assert masks.shape == (2, 6) and masks.dtype == np.bool_ and masks.all()
    vector.step(np.array([4, 3]))
    assert vector.action_masks()[:, 4].tolist() == [False, True]


@environments
def test_step_needs_a_reset(make_vector: Callable[..., RestoreVectorEnv], name: str) -> None:
    vector = make_vector(name)
    with pytest.raises(ResetNeeded):
        vector.step(np.zeros(vector.action_space.shape, np.int64))


@environments
def test_an_invalid_action_changes_nothing(make_vector: Callable[..., RestoreVectorEnv], name: str) -> None:
    vector, undisturbed = make_vector(name), make_vector(name)
    good = np.ones(vector.action_space.shape, np.int64)
    bad = good.copy()
    bad[-1] = 6
    vector.reset(seed=0), undisturbed.reset(seed=0)
    with pytest.raises(PlanParseError):
        vector.step(bad)
    ours, theirs = vector.step(good), undisturbed.step(good)
    assert np.array_equal(ours[1], theirs[1])
    assert_alike(ours[4], theirs[4])


@environments
@pytest.mark.parametrize("count", [3, 5])
def test_a_wrong_number_of_actions_raises(
    make_vector: Callable[..., RestoreVectorEnv], name: str, count: int
) -> None:
    vector = make_vector(name)
    vector.reset(seed=0)
    with pytest.raises(ValueError):
        vector.step(np.ones((count, *vector.action_space.shape[1:]), np.int64))


@pytest.mark.parametrize(("num_envs", "group_size"), [(4, 3), (0, 1), (2, 4), (4, 0), (-2, 1)])
def test_num_envs_must_be_a_multiple_of_group_size(
    make_vector: Callable[..., RestoreVectorEnv], num_envs: int, group_size: int
) -> None:
    with pytest.raises(EnvArgumentError, match=r"multiple of group_size|at least 1"):
        make_vector(num_envs=num_envs, group_size=group_size)


@environments
def test_observations_do_not_share_memory(make_vector: Callable[..., RestoreVectorEnv], name: str) -> None:
    vector = make_vector(name)
    first, _ = vector.reset(seed=0)
    image = first if name == "OPERA-Restore-v0" else first["image"]
    original = image.copy()
    vector.step(np.ones(vector.action_space.shape, np.int64))
    assert np.array_equal(image, original)


def test_tools_trained_in_place_change_the_environment(
    make_vector: Callable[..., RestoreVectorEnv],
    make_env: MakeEnv,
    toolbox: Toolbox,
    perturb_blur_weights: Callable[[Toolbox], None],
    samples: list[Sample],
) -> None:
    """A vector and a single environment share one toolbox."""
    vector = make_vector("OPERA-RestoreStepwise-v0", toolbox=toolbox)
    single = make_env("OPERA-RestoreStepwise-v0", toolbox=toolbox)
    rewards = []
    for train in (False, True):
        if train:
            perturb_blur_weights(toolbox)
        vector.reset(options={"sample": samples[0].spec})
        single.reset(options={"sample": samples[0].spec})
        rewards.append((vector.step(np.array([3] * 4))[1][0], single.step(3)[1]))
    assert rewards[0][0] == pytest.approx(rewards[0][1], abs=TOLERANCES["reward"])
    assert rewards[1][0] == pytest.approx(rewards[1][1], abs=TOLERANCES["reward"])
    assert abs(rewards[1][0] - rewards[0][0]) > 0.1


def test_arguments_that_single_environments_reject_raise(
    make_vector: Callable[..., RestoreVectorEnv], toolbox: Toolbox
) -> None:
    with pytest.raises(RewardError):
        gated = Reward("gated", (RewardTerm("psnr_y", 10, 40, 1),), score_empty_plan=False)
        make_vector("OPERA-RestoreStepwise-v0", reward=gated)
    with pytest.raises(UnsupportedMode):
        make_vector(render_mode="human")
    vector = make_vector(toolbox=toolbox)
    vector.reset(seed=0)
    toolbox.add("late.invert", lambda image: 1 - image)
    with pytest.raises(ToolboxMismatchError):
        vector.step(np.zeros((4, 3), np.int64))


@environments
def test_make_vec_without_a_warning(source: Source, toolbox: Toolbox, name: str) -> None:
    options = {"toolbox": toolbox, "reward": "classic", "source": source, "obs_size": 64, "group_size": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vector = gym.make_vec(
            name, num_envs=4, vectorization_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT, **options
        )
        observations, _ = vector.reset(seed=0)
        results = vector.step(vector.action_space.sample())
    assert isinstance(vector.unwrapped, VECTORS[name])
    assert observations in vector.observation_space
    assert results[0] in vector.observation_space
    assert not results[3].any()


def test_a_failed_step_does_not_use_the_generators(
    make_vector: Callable[..., RestoreVectorEnv], make_toolbox: Callable[[], Toolbox]
) -> None:
    """The next samples are drawn while the tools run; after a failure they are drawn again."""

    def breaks(image: Any) -> Any:
        raise RuntimeError("out of order")

    broken, whole = (make_vector(toolbox=make_toolbox().add("breaks", breaks)) for _ in range(2))
    for env in (broken, whole):
        env.reset(seed=3)
    bad = np.zeros((4, 3), np.int64)
    bad[:, 0] = len(broken.toolbox)
    with pytest.raises(ToolFailedError, match="out of order"):
        broken.step(bad)
    stop = np.zeros((4, 3), np.int64)
    for ours, theirs in zip(broken.step(stop)[:2], whole.step(stop)[:2], strict=True):
        assert np.array_equal(ours, theirs)


def test_a_sample_that_cannot_be_made_does_not_end_the_episodes(
    make_vector: Callable[..., RestoreVectorEnv], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = make_vector(), make_vector()
    for env in (broken, whole):
        env.reset(seed=3)
    stop = np.zeros((4, 3), np.int64)

    def fail(spec: Any) -> Any:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(broken.rules.source, "make", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            broken.step(stop)
    for ours, theirs in zip(broken.step(stop)[:2], whole.step(stop)[:2], strict=True):
        assert np.array_equal(ours, theirs)
