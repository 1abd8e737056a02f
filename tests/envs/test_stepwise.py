"""StepwiseEnv: returns, termination, action masks, observations and shared tools."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.wrappers import RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from opera_env.data import Source
from opera_env.envs.stepwise import StepwiseEnv
from opera_env.errors import PlanParseError, RewardError, ToolboxMismatchError
from opera_env.reward import Reward, RewardTerm
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

MakeEnv = Callable[..., gym.Env[Any, Any]]
STEPWISE = "OPERA-RestoreStepwise-v0"
TOOLS = ("tiny.brighten", "tiny.darken", "tiny.blur", "tiny.enlarge", "tiny.identity")


@pytest.fixture(scope="module")
def env(make_env: MakeEnv) -> gym.Env[Any, Any]:
    return make_env(STEPWISE)


def run_plan(
    env: gym.Env[Any, Any], plan: Plan, **reset: Any
) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
    """Applies a plan, then STOP if steps are left; returns the rewards, the first and the last info."""
    _, first = env.reset(**reset)
    actions = [env.unwrapped.toolbox.names.index(name) + 1 for name in plan]
    if len(plan) < env.unwrapped.rules.config.max_tools:
        actions.append(0)
    rewards, info = [], first
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        assert type(reward) is float
        assert truncated is False
        rewards.append(reward)
    assert terminated is True
    return rewards, first, info


@pytest.fixture(
    scope="module",
    params=["classic", "label_free", pytest.param("lite", marks=pytest.mark.needs_weights("lpips"))],
)
def pair(request: pytest.FixtureRequest, make_env: MakeEnv) -> tuple[gym.Env[Any, Any], gym.Env[Any, Any]]:
    """Both environments with the same tools and a tool cost."""
    options = {"reward": request.param, "tool_cost": 0.125}
    return make_env(**options), make_env(STEPWISE, **options)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(plan=st.lists(st.sampled_from(TOOLS), max_size=3).map(tuple), index=st.integers(0, 3))
def test_the_return_is_the_one_shot_reward_less_r_q_of_the_input(
    pair: tuple[gym.Env[Any, Any], gym.Env[Any, Any]], samples: list[Sample], plan: Plan, index: int
) -> None:
    one_shot, stepwise = pair
    options = {"sample": samples[index].spec}
    one_shot.reset(options=options)
    unchanged = one_shot.step(np.zeros(3, np.int64))[1]
    one_shot.reset(options=options)
    reward, info = one_shot.step(one_shot.unwrapped.rules.codec.encode(plan))[1::3]
    rewards, first, last = run_plan(stepwise, plan, options=options)
    assert first["r_q"] == unchanged
    assert sum(rewards) == pytest.approx(reward - unchanged, abs=1e-6)
    assert last["r_q"] == pytest.approx(info["r_q"], abs=1e-6)
    assert last["plan"] == info["plan"] == plan


@pytest.mark.needs_weights("lpips")
def test_returns_add_up_in_the_default_environment(make_env: MakeEnv) -> None:
    options = {"toolbox": "lite", "reward": "lite", "source": None, "max_tools": 6}
    one_shot, stepwise = make_env(**options), make_env(STEPWISE, **options)
    rng = np.random.default_rng(0)
    names = one_shot.unwrapped.toolbox.names
    for seed, length in enumerate((1, 6)):
        plan = tuple(names[index] for index in rng.integers(len(names), size=length))
        one_shot.reset(seed=seed)
        reward = one_shot.step(one_shot.unwrapped.rules.codec.encode(plan))[1]
        rewards, first, _ = run_plan(stepwise, plan, seed=seed)
        assert sum(rewards) == pytest.approx(reward - first["r_q"], abs=0.02)  # decision 5


def test_each_reward_is_an_increase_of_r_q(env: gym.Env[Any, Any]) -> None:
    _, info = env.reset(seed=3)
    quality = info["r_q"]
    for action in (3, 1, 2):
        _, reward, _, _, info = env.step(action)
        assert reward == pytest.approx(info["r_q"] - quality)
        quality = info["r_q"]


def test_stop_has_reward_0(make_env: MakeEnv) -> None:
    rewards, first, last = run_plan(make_env(STEPWISE, tool_cost=1.0), (), seed=3)
    assert rewards == [0.0]
    assert last["plan"] == ()
    assert last["r_q"] == first["r_q"]


def test_a_reward_that_does_not_score_the_empty_plan_raises(make_env: MakeEnv) -> None:
    """A reward like ``release``, which itself needs weights that may be missing."""
    gated = Reward("gated", (RewardTerm("psnr_y", 10, 40, 1),), score_empty_plan=False)
    with pytest.raises(RewardError, match="gated"):
        make_env(STEPWISE, reward=gated)
    rewarded = make_env(reward=gated)
    rewarded.reset(seed=0)
    assert rewarded.step(np.zeros(3, np.int64))[1] == 0.0


@pytest.mark.needs_weights("musiq")
@pytest.mark.needs_weights("clipiqa")
def test_the_reward_release_raises(make_env: MakeEnv) -> None:
    with pytest.raises(RewardError, match="release"):
        make_env(STEPWISE, reward="release")


def test_an_episode_terminates_at_stop_or_the_last_tool(env: gym.Env[Any, Any]) -> None:
    env.reset(seed=0)
    assert [env.step(action)[2] for action in (5, 5, 5)] == [False, False, True]
    env.reset(seed=0)
    assert [env.step(action)[2] for action in (5, 0)] == [False, True]


def test_a_step_after_the_end_raises(make_env: MakeEnv) -> None:
    env = make_env(STEPWISE).unwrapped
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(ResetNeeded):
        env.step(1)
    env.reset()
    env.step(1)


@pytest.mark.parametrize("action", [-1, 6, 1.0, [1, 2], None], ids=repr)
def test_invalid_actions_raise(env: gym.Env[Any, Any], action: Any) -> None:
    env.reset(seed=0)
    env.step(3)
    with pytest.raises(PlanParseError):
        env.unwrapped.step(action)
    assert env.unwrapped.step(1)[4]["plan"] == ("tiny.blur", "tiny.brighten")


def test_the_observation_follows_the_plan(env: gym.Env[Any, Any]) -> None:
    first, _ = env.reset(seed=1)
    assert np.array_equal(first["image"], first["original"])
    assert first["image"] is not first["original"]
    assert first["steps_left"] == 3 and first["used"].tolist() == [0, 0, 0]
    darker, *_ = env.step(2)
    assert darker["steps_left"] == 2 and darker["used"].tolist() == [2, 0, 0]
    assert darker["image"].mean() < first["image"].mean()
    assert np.array_equal(darker["original"], first["original"])
    last = env.step(4)[0]
    assert last["steps_left"] == 1 and last["used"].tolist() == [2, 4, 0]
    assert last in env.observation_space


def test_the_observed_image_is_the_scored_image(env: gym.Env[Any, Any]) -> None:
    """With ``obs_size`` equal to the canvas nothing is resized."""
    env.reset(seed=1)
    for action in (2, 3, 1):
        observation, *_, info = env.step(action)
        assert np.array_equal(observation["image"], np.asarray(info["restored"]))


def test_info_keys_after_reset(env: gym.Env[Any, Any]) -> None:
    _, info = env.reset(seed=1)
    assert set(info) == {"plan", "degradations", "sample", "metrics", "terms", "r_q", "restored"}
    assert isinstance(info["restored"], Image.Image)
    assert sum(info["terms"].values()) == pytest.approx(info["r_q"])


def test_equal_seeds_give_equal_episodes(make_env: MakeEnv) -> None:
    first, second = make_env(STEPWISE), make_env(STEPWISE)
    for seed, actions in ((0, (1, 3, 4)), (None, (4, 0)), (None, (0,))):
        starts = [env.reset(seed=seed) for env in (first, second)]
        assert starts[0][1] == starts[1][1]
        for action in actions:
            ours, theirs = first.step(action), second.step(action)
            assert ours[1:] == theirs[1:]
            assert all(np.array_equal(ours[0][key], theirs[0][key]) for key in ours[0])


def test_a_step_runs_one_tool(env: gym.Env[Any, Any]) -> None:
    scorer = env.unwrapped.rules.scorer
    env.reset(seed=21)
    for action in (1, 2, 3):
        before = scorer.tools_run
        env.step(action)
        assert scorer.tools_run == before + 1


def train_by_optimizer(toolbox: Toolbox, optimizer: torch.optim.Optimizer) -> None:
    module = toolbox["tiny.blur"].module
    assert module is not None
    optimizer.zero_grad()
    module(torch.ones(1, 3, 8, 8)).mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.05),
        lambda parameters: torch.optim.Adam(parameters, lr=0.05, foreach=False),
        lambda parameters: torch.optim.Adam(parameters, lr=0.05, foreach=True),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.05, fused=True),
    ],
    ids=["sgd", "adam", "foreach", "fused"],
)
def test_an_optimizer_step_takes_effect_at_once(
    make_env: MakeEnv, toolbox: Toolbox, samples: list[Sample], make_optimizer: Callable[..., Any]
) -> None:
    """Cached images of earlier weights are not used."""
    module = toolbox["tiny.blur"].module
    assert module is not None
    optimizer = make_optimizer(module.parameters())
    envs = [make_env(STEPWISE, toolbox=toolbox), make_env(STEPWISE, toolbox=toolbox)]
    options = {"sample": samples[0].spec}
    before = [run_plan(env, ("tiny.blur",), options=options)[0] for env in envs]
    train_by_optimizer(toolbox, optimizer)
    after = [run_plan(env, ("tiny.blur",), options=options)[0] for env in envs]
    fresh = run_plan(make_env(STEPWISE, toolbox=toolbox), ("tiny.blur",), options=options)[0]
    assert before[0] == before[1] != after[0] == after[1] == fresh


def test_loaded_weights_take_effect_at_once(
    make_env: MakeEnv, toolbox: Toolbox, samples: list[Sample]
) -> None:
    env = make_env(STEPWISE, toolbox=toolbox)
    options = {"sample": samples[0].spec}
    before = run_plan(env, ("tiny.blur", "tiny.darken"), options=options)[0]
    module = toolbox["tiny.blur"].module
    assert module is not None
    module.load_state_dict({key: value / 2 for key, value in module.state_dict().items()})
    after = run_plan(env, ("tiny.blur", "tiny.darken"), options=options)[0]
    assert before[0] != after[0] and before[1] != after[1]


def test_training_during_an_episode(
    make_env: MakeEnv,
    toolbox: Toolbox,
    perturb_blur_weights: Callable[[Toolbox], None],
    samples: list[Sample],
) -> None:
    """The next step applies the whole plan with the new weights."""
    env = make_env(STEPWISE, toolbox=toolbox)
    options = {"sample": samples[0].spec}
    env.reset(options=options)
    env.step(3)
    perturb_blur_weights(toolbox)
    info = env.step(1)[4]
    fresh = run_plan(make_env(STEPWISE, toolbox=toolbox), ("tiny.blur", "tiny.brighten"), options=options)[
        2
    ]
    assert info["r_q"] == fresh["r_q"]


def test_adding_a_tool_needs_a_new_environment(make_env: MakeEnv, toolbox: Toolbox) -> None:
    env = make_env(STEPWISE, toolbox=toolbox)
    env.reset(seed=0)
    toolbox.add("late.invert", lambda image: 1 - image)
    with pytest.raises(ToolboxMismatchError):
        env.step(0)


def test_masks_allow_every_action_without_mask_upscale(make_env: MakeEnv) -> None:
    env = make_env(STEPWISE, mask_upscale=False)
    env.reset(seed=0)
    for action in (4, 4):
        mask = env.get_wrapper_attr("action_masks")()
        assert mask.dtype == np.bool_ and mask.tolist() == [True] * 6
        env.step(action)


def test_masks_forbid_upscaling_at_canvas_size(make_env: MakeEnv, samples: list[Sample]) -> None:
    """The default. The mask is available through wrappers, as MaskablePPO needs it."""
    env = RecordEpisodeStatistics(make_env(STEPWISE))
    masks = env.get_wrapper_attr("action_masks")
    full = next(sample for sample in samples if sample.lq.shape[-1] == 64)
    env.reset(options={"sample": full.spec})
    assert masks().tolist() == [True, True, True, True, False, True]
    small = next(sample for sample in samples if sample.lq.shape[-1] == 16)
    env.reset(options={"sample": small.spec})
    assert masks().all()
    env.step(3)
    assert masks().all()
    env.step(4)
    assert masks().tolist() == [True, True, True, True, False, True]
    assert env.step(4)[4]["plan"] == ("tiny.blur", "tiny.enlarge", "tiny.enlarge")  # masks are advice


def test_masks_before_the_first_reset_allow_every_action(make_env: MakeEnv) -> None:
    assert make_env(STEPWISE, mask_upscale=True).unwrapped.action_masks().shape == (6,)


def test_a_pickled_copy_continues_the_episode(make_env: MakeEnv) -> None:
    env = make_env(STEPWISE).unwrapped
    env.reset(seed=5)
    env.step(3)
    copy = pickle.loads(pickle.dumps(env))
    assert isinstance(copy, StepwiseEnv)
    for action in (4, 2):
        ours, theirs = env.step(action), copy.step(action)
        assert ours[1:] == theirs[1:]
        assert all(np.array_equal(ours[0][key], theirs[0][key]) for key in ours[0])
    assert np.array_equal(env.reset()[0]["image"], copy.reset()[0]["image"])


def test_whole_images_of_any_size(make_env: MakeEnv, photos: Any) -> None:
    from opera_env.data import photographs

    env = make_env(STEPWISE, source=photographs(photos), reward="label_free", mask_upscale=True)
    for index, size in enumerate([(128, 96), (75, 101), (96, 128)]):
        rewards, _, info = run_plan(
            env, ("tiny.blur", "tiny.enlarge"), options={"sample": {"source": photos.name, "index": index}}
        )
        assert info["restored"].size == size
        assert len(rewards) == 3


def test_both_environments_draw_the_same_samples(make_env: MakeEnv, source: Source) -> None:
    one_shot, stepwise = make_env(source=source), make_env(STEPWISE, source=source)
    assert one_shot.reset(seed=9)[1]["sample"] == stepwise.reset(seed=9)[1]["sample"]
    assert np.array_equal(one_shot.reset(seed=9)[0], stepwise.reset(seed=9)[0]["original"])
