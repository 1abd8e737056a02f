"""RestoreEnv: spaces, actions, rewards, info, seeds, shared tools and image sizes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded, UnsupportedMode
from PIL import Image

from opera_env.data import Source, clean_folder, paired, photographs
from opera_env.envs.restore import RestoreEnv
from opera_env.errors import MetricError, PlanParseError, SampleError, ToolboxMismatchError
from opera_env.plan import PlanCodec
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec

MakeEnv = Callable[..., gym.Env[Any, Any]]


@pytest.fixture(scope="module")
def env(make_env: MakeEnv) -> gym.Env[Any, Any]:
    return make_env()


def run_plan(
    env: gym.Env[Any, Any], plan: tuple[str, ...], **reset: Any
) -> tuple[Any, float, dict[str, Any]]:
    env.reset(**reset)
    codec = PlanCodec(env.unwrapped.toolbox.names, env.unwrapped.rules.config.max_tools)
    observation, reward, terminated, truncated, info = env.step(codec.encode(plan))
    assert terminated is True and truncated is False
    return observation, reward, info


def test_spaces(env: gym.Env[Any, Any]) -> None:
    assert env.action_space == gym.spaces.MultiDiscrete([6, 6, 6])
    assert env.observation_space == gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)


def test_the_reward_equals_r_q_of_the_scorer(env: gym.Env[Any, Any], samples: list[Sample]) -> None:
    plan = ("tiny.blur", "tiny.enlarge")
    for sample in samples:
        _, reward, info = run_plan(env, plan, options={"sample": sample.spec})
        outcome = PlanScorer(env.unwrapped.toolbox, "classic").score([sample], [plan])[0]
        assert type(reward) is float
        assert reward == outcome.r_q == info["r_q"]
        assert info["metrics"] == outcome.metrics


def test_the_tool_cost_is_subtracted(make_env: MakeEnv, samples: list[Sample]) -> None:
    free, costly = make_env(), make_env(tool_cost=0.25)
    options = {"sample": samples[0].spec}
    for plan in ((), ("tiny.blur",), ("tiny.blur", "tiny.identity", "tiny.blur")):
        without, with_cost = run_plan(free, plan, options=options), run_plan(costly, plan, options=options)
        assert with_cost[1] == pytest.approx(without[1] - 0.25 * len(plan))
        assert with_cost[2]["r_q"] == without[2]["r_q"]  # quality is quality; only the reward pays


def test_entries_after_stop_are_ignored(env: gym.Env[Any, Any]) -> None:
    results = []
    for action in ([3, 0, 0], [3, 0, 5], [3, 0, 3]):
        env.reset(seed=4)
        results.append(env.step(np.array(action)))
    for observation, reward, *_, info in results:
        assert info["plan"] == ("tiny.blur",)
        assert reward == results[0][1]
        assert np.array_equal(observation, results[0][0])


def test_an_action_of_zeros_leaves_the_image_unchanged(env: gym.Env[Any, Any]) -> None:
    before, _ = env.reset(seed=4)
    after, reward, _, _, info = env.step(np.zeros(3, np.int64))
    assert info["plan"] == ()
    assert np.array_equal(before, after)
    assert reward == run_plan(env, ("tiny.identity",), seed=4)[1]


@pytest.mark.parametrize("action", [[1, 2], [6, 0, 0], [-1, 0, 0], [0.5, 0, 0], [[1, 1, 1]]], ids=repr)
def test_invalid_actions_raise(env: gym.Env[Any, Any], action: Any) -> None:
    env.reset(seed=0)
    with pytest.raises(PlanParseError):
        env.unwrapped.step(np.array(action))
    env.unwrapped.step(np.zeros(3, np.int64))  # the invalid action did not change the episode


def test_step_before_reset_raises(make_env: MakeEnv) -> None:
    env = make_env()
    with pytest.raises(ResetNeeded):
        env.unwrapped.step(np.zeros(3, np.int64))
    env.reset(seed=0)
    env.step(np.zeros(3, np.int64))
    with pytest.raises(ResetNeeded):
        env.unwrapped.step(np.zeros(3, np.int64))


def test_info_keys(env: gym.Env[Any, Any]) -> None:
    plan = ("tiny.darken", "tiny.darken")
    _, first = env.reset(seed=2)
    assert set(first) == {"plan", "degradations", "sample"}
    assert first["plan"] == ()
    _, _, info = run_plan(env, plan, seed=2)
    assert set(info) == {"plan", "degradations", "sample", "metrics", "terms", "r_q", "restored"}
    assert info["plan"] == plan
    assert info["sample"] == first["sample"]
    assert set(info["metrics"]) == set(info["terms"]) == {"psnr_y", "ssim_y", "gmsd"}
    assert sum(info["terms"].values()) == pytest.approx(info["r_q"])
    assert isinstance(info["restored"], Image.Image)
    assert info["restored"].size == (64, 64)


def test_degradations_in_info_are_sorted(env: gym.Env[Any, Any], samples: list[Sample]) -> None:
    spec = next(sample.spec for sample in samples if sample.spec.recipe == ("noise", "low_resolution"))
    _, info = env.reset(options={"sample": spec})
    assert info["degradations"] == ("low_resolution", "noise")
    assert info["sample"]["recipe"] == (
        "noise",
        "low_resolution",
    )  # in the order of application


def test_the_restored_image_is_at_canvas_size(env: gym.Env[Any, Any], samples: list[Sample]) -> None:
    small = next(sample for sample in samples if sample.lq.shape[-1] == 16)
    options = {"sample": small.spec}
    for plan in ((), ("tiny.blur",), ("tiny.enlarge",), ("tiny.enlarge", "tiny.enlarge")):
        _, _, info = run_plan(env, plan, options=options)
        assert info["restored"].size == (64, 64)


def test_the_sample_in_info_starts_the_same_episode(env: gym.Env[Any, Any]) -> None:
    observation, info = env.reset(seed=7)
    spec = info["sample"]
    for sample in (spec, json.loads(json.dumps(spec)), SampleSpec.from_json(spec)):
        again, same = env.reset(options={"sample": sample})
        assert np.array_equal(observation, again)
        assert SampleSpec.from_json(same["sample"]) == SampleSpec.from_json(spec)


@pytest.mark.parametrize(
    "sample", [{"index": 0}, 3, "bundled", {"source": "elsewhere", "index": 0}], ids=repr
)
def test_invalid_samples_in_options_raise(env: gym.Env[Any, Any], sample: Any) -> None:
    with pytest.raises(SampleError):
        env.reset(options={"sample": sample})


@pytest.mark.parametrize("options", [None, {}, {"sample": None}], ids=repr)
def test_without_a_sample_in_options_the_source_draws_one(env: gym.Env[Any, Any], options: Any) -> None:
    assert env.reset(seed=3, options=options)[1] == env.reset(seed=3)[1]


def test_equal_seeds_give_equal_episodes(make_env: MakeEnv) -> None:
    first, second = make_env(), make_env()
    for env in (first, second):
        env.action_space.seed(0)
    starts = [env.reset(seed=11) for env in (first, second)]
    for _ in range(4):
        assert np.array_equal(starts[0][0], starts[1][0])
        assert starts[0][1] == starts[1][1]
        results = [env.step(env.action_space.sample()) for env in (first, second)]
        assert np.array_equal(results[0][0], results[1][0])
        assert results[0][1:] == results[1][1:]
        starts = [env.reset() for env in (first, second)]


def test_different_seeds_draw_different_samples(env: gym.Env[Any, Any]) -> None:
    specs = {json.dumps(env.reset(seed=seed)[1]["sample"]) for seed in range(8)}
    assert len(specs) == 8
    env.reset(seed=0)
    assert len({json.dumps(env.reset()[1]["sample"]) for _ in range(8)}) == 8


def test_steps_do_not_use_the_generator(env: gym.Env[Any, Any]) -> None:
    env.reset(seed=0)
    without_step = env.reset()[1]
    env.reset(seed=0)
    env.step(np.array([3, 4, 0]))
    assert env.reset()[1] == without_step


def test_tools_trained_in_place_change_the_environment(
    make_env: MakeEnv,
    toolbox: Toolbox,
    perturb_blur_weights: Callable[[Toolbox], None],
    samples: list[Sample],
) -> None:
    envs = [make_env(toolbox=toolbox), make_env(toolbox=toolbox)]
    options = {"sample": samples[0].spec}
    before = [run_plan(env, ("tiny.blur",), options=options)[1] for env in envs]
    unchanged = run_plan(envs[0], (), options=options)[1]
    perturb_blur_weights(toolbox)
    after = [run_plan(env, ("tiny.blur",), options=options)[1] for env in envs]
    assert before[0] == before[1] != after[0] == after[1]
    assert run_plan(envs[0], (), options=options)[1] == unchanged


def test_adding_a_tool_needs_a_new_environment(make_env: MakeEnv, toolbox: Toolbox) -> None:
    env = make_env(toolbox=toolbox)
    env.reset(seed=0)
    toolbox.add("late.invert", lambda image: 1 - image)
    with pytest.raises(ToolboxMismatchError, match=r"5 tools .* has 6"):
        env.step(np.zeros(3, np.int64))
    assert run_plan(make_env(toolbox=toolbox), ("late.invert",), seed=0)[2]["plan"] == ("late.invert",)


def test_an_environment_without_tools_raises(make_env: MakeEnv) -> None:
    with pytest.raises(ToolboxMismatchError, match="at least one tool"):
        make_env(toolbox=Toolbox())


def test_a_reward_with_reference_needs_references(make_env: MakeEnv, photos: Path) -> None:
    env = make_env(source=photographs(photos))
    env.reset(seed=0)
    with pytest.raises(MetricError, match="label_free"):
        env.step(np.zeros(3, np.int64))


def test_a_pickled_copy_continues_the_episode(make_env: MakeEnv) -> None:
    env = make_env().unwrapped
    env.reset(seed=5)
    env.step(np.array([3, 0, 0]))
    env.reset()
    copy = pickle.loads(pickle.dumps(env))
    assert isinstance(copy, RestoreEnv)
    for action in ([3, 1, 0], [0, 0, 0], [4, 2, 2]):
        ours, theirs = env.step(np.array(action)), copy.step(np.array(action))
        assert np.array_equal(ours[0], theirs[0]) and ours[1:] == theirs[1:]
        assert np.array_equal(env.reset()[0], copy.reset()[0])


@pytest.mark.needs_weights("lpips")
def test_the_default_environment_can_be_pickled(make_env: MakeEnv, source: Source) -> None:
    env = make_env(toolbox="lite", reward="lite").unwrapped
    env.reset(seed=5)
    copy = pickle.loads(pickle.dumps(env))
    action = np.array([1, 6, 9])
    assert env.step(action)[1:] == copy.step(action)[1:]


@pytest.mark.parametrize("kind", ["clean", "low_resolution", "paired", "photographs"])
def test_whole_images_of_any_size(make_env: MakeEnv, photos: Path, kind: str) -> None:
    """``canvas=None``: images of several sizes that are neither square nor multiples of 4."""
    source: Source = {
        "clean": lambda: clean_folder(photos, canvas=None),
        "low_resolution": lambda: clean_folder(photos, canvas=None),
        "paired": lambda: paired(photos, photos),
        "photographs": lambda: photographs(photos),
    }[kind]()
    recipe = {"clean": ["noise"], "low_resolution": ["low_resolution"]}.get(kind, [])
    odd = (101, 75) if kind in ("paired", "photographs") else (100, 72)  # synthesis needs multiples of 4
    env = make_env(source=source, reward="label_free" if kind == "photographs" else "classic")
    for index, (height, width) in enumerate([(96, 128), odd, (128, 96)]):
        spec = {"source": source.name, "index": index, "recipe": recipe}
        before, _ = env.reset(options={"sample": spec})
        after, reward, _, _, info = env.step(np.array([4, 3, 0]))
        assert before.shape == after.shape == (64, 64, 3)
        assert info["restored"].size == (width, height)
        assert np.isfinite(reward)


def test_a_folder_as_source(make_env: MakeEnv, photos: Path) -> None:
    env = make_env(source=str(photos), canvas=72)
    _, info = env.reset(seed=0)
    assert info["sample"]["source"] == photos.name
    assert info["sample"]["crop"][2:] == (72, 72)


def test_a_low_resolution_image_looks_blurred_not_small(
    env: gym.Env[Any, Any], samples: list[Sample]
) -> None:
    small = next(sample for sample in samples if sample.lq.shape[-1] == 16)
    observation, _ = env.reset(options={"sample": small.spec})
    assert small.reference is not None
    clean = (small.reference * 255).permute(1, 2, 0).numpy()
    detail = [np.abs(np.diff(image.astype(float), axis=1)).mean() for image in (observation, clean)]
    assert detail[0] < detail[1]
    assert abs(observation.mean() - clean.mean()) < 4


@pytest.mark.needs_shared_data
def test_photographs_of_a_data_set(make_env: MakeEnv, shared_data: Path) -> None:
    folder = next(path for path in sorted((shared_data / "real").iterdir()) if path.is_dir())
    env = make_env(source=photographs(folder, canvas=128), reward="label_free")
    _, reward, info = run_plan(env, ("tiny.blur",), seed=0)
    assert 0 <= reward <= 10
    assert info["degradations"] is None


def test_an_unknown_render_mode_raises(source: Source, toolbox: Toolbox) -> None:
    with pytest.raises(UnsupportedMode):
        RestoreEnv(toolbox=toolbox, reward="classic", source=source, render_mode="human")
