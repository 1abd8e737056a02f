"""Specifications: what gym.make(env.spec) and their JSON make again, also after the tools were trained."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec

from opera_env.envs.registration import ENVIRONMENTS
from opera_env.errors import EnvArgumentError, ToolboxMismatchError, UntrustedCodeError
from opera_env.tools import Toolbox
from tests.own_rewards import BRIGHT

OPTIONS: dict[str, Any] = {"reward": "classic", "max_tools": 2, "obs_size": 32, "canvas": 64}
FORMS = ("single", "vector")


@pytest.fixture
def box(tmp_path: Path) -> str:
    Toolbox.load("lite").subset(["unet.denoise", "brighten.constant_shift"]).save(tmp_path / "box")
    return str(tmp_path / "box")


@pytest.fixture(params=zip(ENVIRONMENTS, FORMS, strict=True), ids="-".join)
def make(request: pytest.FixtureRequest, photos: Path) -> Callable[..., Any]:
    """``make(id_or_spec=None, **options)`` makes one environment in its single, one in its vector form."""
    name, form = request.param

    def make_form(spec: str | EnvSpec | None = None, **options: Any) -> Any:
        options = options if spec is not None else {"source": str(photos)} | OPTIONS | options
        if form == "single":
            return gym.make(spec or name, **options)
        if spec is None:
            options |= {"num_envs": 2, "vectorization_mode": "vector_entry_point"}
        return gym.make_vec(spec or name, **options)

    return make_form


def toolbox_of(env: Any) -> Toolbox:
    return env.unwrapped.toolbox


def spec_of(env: Any) -> EnvSpec:
    """The specification as a user reads it; that of a wrapped environment is a copy."""
    assert env.spec is not None
    return env.spec


def train(env: Any) -> None:
    with torch.no_grad():
        next(iter(toolbox_of(env)["unet.denoise"].parameters)).add_(0.01)


def start(env: Any) -> Any:
    observation, _ = env.reset(seed=4)
    return observation["image"] if isinstance(observation, dict) else observation


def through_json(env: Any) -> EnvSpec:
    return EnvSpec.from_json(json.dumps(json.loads(spec_of(env).to_json())))


def test_a_named_toolbox_is_made_again(make: Callable[..., Any], box: str) -> None:
    env = make(toolbox=box)
    for spec in (spec_of(env), through_json(env)):
        again = make(spec)
        assert toolbox_of(again).fingerprint == toolbox_of(env).fingerprint
        assert toolbox_of(again) is not toolbox_of(env)
        assert np.array_equal(start(again), start(env))


def test_trained_tools_are_not_replaced_by_untrained_ones(make: Callable[..., Any], box: str) -> None:
    """The specification was read before the training, as Gymnasium's wrappers keep a copy of it."""
    env = make(toolbox=box)
    spec = spec_of(env)
    train(env)
    for each in (spec, spec_of(env)):
        with pytest.raises(ToolboxMismatchError, match=r"have changed since.*toolbox\.save\(FOLDER\)"):
            make(each)
        with pytest.raises(ToolboxMismatchError, match=r"have changed since"):
            each.to_json()
    assert toolbox_of(make(spec, toolbox=box)).fingerprint == Toolbox.load(box).fingerprint


def test_after_saving_the_specification_names_the_folder(
    make: Callable[..., Any], box: str, tmp_path: Path
) -> None:
    env = make(toolbox=box)
    spec = spec_of(env)
    train(env)
    toolbox_of(env).save(tmp_path / "trained")
    for each in (spec, spec_of(env), through_json(env)):
        assert toolbox_of(make(each)).fingerprint == toolbox_of(env).fingerprint
    assert json.loads(spec.to_json())["kwargs"]["toolbox"].startswith(str(tmp_path / "trained@"))


def test_a_folder_that_has_changed_is_refused(make: Callable[..., Any], box: str) -> None:
    env = make(toolbox=box)
    spec = through_json(env)
    other = Toolbox.load(box)
    with torch.no_grad():
        next(iter(other["unet.denoise"].parameters)).add_(0.01)
    other.save(box)
    with pytest.raises(ToolboxMismatchError, match=rf"fingerprint {toolbox_of(env).fingerprint}.*now has"):
        make(spec)
    assert toolbox_of(make(spec, toolbox=box)).fingerprint == other.fingerprint


def test_the_default_toolbox_is_recorded(make: Callable[..., Any]) -> None:
    env = make()
    assert spec_of(env).kwargs["toolbox"] == "lite"
    reference = json.loads(spec_of(env).to_json())["kwargs"]["toolbox"]
    assert reference == f"lite@{toolbox_of(env).fingerprint}"


def test_an_object_is_shared_and_stays_trained(make: Callable[..., Any], toolbox: Toolbox) -> None:
    env = make(toolbox=toolbox)
    for spec in (spec_of(env), copy.deepcopy(spec_of(env))):
        assert toolbox_of(make(spec)) is toolbox


def test_an_object_without_a_folder_has_no_json(
    make: Callable[..., Any], toolbox: Toolbox, tmp_path: Path
) -> None:
    env = make(toolbox=toolbox)
    with pytest.raises(ToolboxMismatchError, match=r"passed as an object.*toolbox\.save\(FOLDER\)"):
        spec_of(env).to_json()


def test_a_loaded_or_saved_object_has_json(make: Callable[..., Any], box: str, tmp_path: Path) -> None:
    env = make(toolbox=Toolbox.load(box))
    assert toolbox_of(make(through_json(env))).fingerprint == toolbox_of(env).fingerprint
    train(env)
    with pytest.raises(ToolboxMismatchError, match="have changed since"):
        spec_of(env).to_json()
    toolbox_of(env).save(tmp_path / "new")
    assert toolbox_of(make(through_json(env))).fingerprint == toolbox_of(env).fingerprint


def test_loaded_weights_name_their_folder(make: Callable[..., Any], box: str, tmp_path: Path) -> None:
    other = Toolbox.load(box)
    with torch.no_grad():
        next(iter(other["unet.denoise"].parameters)).add_(0.01)
    other.save(tmp_path / "other")
    env = make(toolbox=box)
    env.unwrapped.load_toolbox(tmp_path / "other")
    assert toolbox_of(make(through_json(env))).fingerprint == other.fingerprint


def test_rounded_weights_are_no_origin(box: str, tmp_path: Path) -> None:
    toolbox = Toolbox.load(box)
    toolbox.save(tmp_path / "half", dtype=torch.float16)
    assert toolbox.origin == (box, True)
    toolbox.add("mine.identity", lambda image: image)
    assert toolbox.origin == (box, False)
    assert toolbox.subset(["unet.denoise"]).origin is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reward": BRIGHT}, r"reward: .*Reward objects.*'module:attribute'"),
        ({"source": "object"}, r"source: .*SyntheticSource objects.*a folder, or"),
        ({"degradations": []}, "degradations"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_other_objects_are_shared_and_have_no_json(
    make: Callable[..., Any], source: Any, options: dict[str, Any], says: str
) -> None:
    if options.get("source"):
        options = {"source": source}
    if "degradations" in options:
        from tests.degradations.own import Vignette

        options = {"degradations": [Vignette]}
    env = make(**options)
    assert np.array_equal(start(make(spec_of(env))), start(env))
    with pytest.raises(EnvArgumentError, match=says):
        spec_of(env).to_json()


def test_a_source_is_not_copied(make: Callable[..., Any], source: Any) -> None:
    """A copy would hold its images a second time."""
    env = make(source=source)
    assert make(copy.deepcopy(spec_of(env))).unwrapped.rules.source is source


def test_names_paths_and_recipes_have_json(make: Callable[..., Any], photos: Path, box: str) -> None:
    options = {
        **{"toolbox": Path(box), "source": photos, "reward": "tests.own_rewards:BRIGHT"},
        **{"recipes": [("noise", "jpeg"), "haze"], "degradations": "tests.degradations.own:Vignette"},
        **{"max_tools": np.int64(2), "tool_cost": np.float32(0.5)},
    }
    env = make(**options)
    again = make(through_json(env))
    assert np.array_equal(start(again), start(env))
    assert again.unwrapped.rules.config.tool_cost == 0.5


def test_a_specification_of_own_code_needs_trust_again(make: Callable[..., Any], tmp_path: Path) -> None:
    own = Toolbox().add("mine.invert", "tests.own_tools:invert")
    own.save(tmp_path / "own")
    spec = through_json(make(toolbox=own))
    with pytest.raises(UntrustedCodeError, match="own_tools:invert"):
        make(spec)
    assert toolbox_of(make(spec, trust_code=True)).fingerprint == own.fingerprint


def test_trained_environments_can_be_pickled(make: Callable[..., Any], box: str) -> None:
    env = make(toolbox=box)
    train(env)
    again = pickle.loads(pickle.dumps(env))
    assert toolbox_of(again).fingerprint == toolbox_of(env).fingerprint
    with pytest.raises(ToolboxMismatchError, match="have changed since"):
        make(spec_of(again))


def test_a_pickled_toolbox_keeps_its_origin(box: str) -> None:
    toolbox = Toolbox.load(box)
    assert pickle.loads(pickle.dumps(toolbox)).origin == (box, True)
    with torch.no_grad():
        next(iter(toolbox["unet.denoise"].parameters)).add_(0.01)
    assert pickle.loads(pickle.dumps(toolbox)).origin == (box, False)
    assert pickle.loads(pickle.dumps(Toolbox())).origin is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_processes_are_made_of_a_specification(name: str, photos: Path, box: str) -> None:
    single = gym.make(name, toolbox=box, source=str(photos), **OPTIONS)
    envs: Any = gym.make_vec(spec_of(single), num_envs=2, vectorization_mode="async")
    prints = envs.call("toolbox")
    assert {toolbox.fingerprint for toolbox in prints} == {toolbox_of(single).fingerprint}
    envs.close()


def test_a_folder_whose_name_looks_like_a_reference(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "box@0123456789abcdef"
    Toolbox.load("lite").subset(["brighten.constant_shift"]).save(folder)
    env = gym.make("OPERA-Restore-v0", toolbox=str(folder), source=str(photos), **OPTIONS)
    assert toolbox_of(gym.make(through_json(env))).names == ("brighten.constant_shift",)
