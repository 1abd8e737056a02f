"""Arguments of environments and options of reset: unknown names and unusable values raise at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList

from opera_env.data import Source
from opera_env.envs.config import EnvConfig
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.envs.stepwise import StepwiseConfig
from opera_env.errors import EnvArgumentError, OperaError
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec

Make = Callable[..., Any]

UNUSABLE: dict[str, tuple[Any, ...]] = {
    "toolbox": (3, None, "", ["lite"]),
    "reward": (3, None, " ", ["lite"]),
    "source": (3, "", ["bundled"]),
    "max_tools": (0, -1, 2.5, "6", True, None, float("nan")),
    "obs_size": (0, -1, 64.0, "64", True, None),
    "canvas": (0, -4, 2, 66, 64.0, "64", True),
    "tool_cost": (float("nan"), float("inf"), -0.1, "0.1", True, None, 1j),
    "device": ("cud", "", "cuda:99", "meta", None),
}
CASES = [pytest.param(name, value, id=f"{name}={value!r}") for name in UNUSABLE for value in UNUSABLE[name]]


@pytest.fixture(
    params=[(name, form) for name in ENVIRONMENTS for form in ("single", "vector")], ids="-".join
)
def make(request: pytest.FixtureRequest, toolbox: Toolbox, source: Source) -> Make:
    """Makes each environment in both forms; the arguments of the small fixtures can be replaced."""
    name, form = request.param
    small = {"toolbox": toolbox, "reward": "classic", "source": source, "max_tools": 3, "obs_size": 64}

    def make_form(**options: Any) -> Any:
        if form == "single":
            return gym.make(name, **(small | options))
        vector = {"num_envs": 4, "vectorization_mode": "vector_entry_point"}
        return gym.make_vec(name, **(small | vector | options))

    return make_form


@pytest.mark.parametrize("config", [EnvConfig, StepwiseConfig])
@pytest.mark.parametrize(("name", "value"), CASES)
def test_an_unusable_value_raises(
    config: type[EnvConfig], toolbox: Toolbox, source: Source, name: str, value: Any
) -> None:
    """Even where the argument has no effect: the tools and the source are objects."""
    with pytest.raises(EnvArgumentError, match=rf"^{name}: expected .* found ") as caught:
        config(**({"toolbox": toolbox, "reward": "classic", "source": source} | {name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1, "yes", None, 0.0])
def test_mask_upscale_is_a_switch(toolbox: Toolbox, value: Any) -> None:
    with pytest.raises(EnvArgumentError, match=r"^mask_upscale: expected True or False"):
        StepwiseConfig(toolbox=toolbox, mask_upscale=value)


def test_usable_values(toolbox: Toolbox, source: Source, photos: Path) -> None:
    """Numbers of NumPy and paths are as good as those of Python."""
    config = EnvConfig(
        toolbox, "classic", source, np.int64(1), np.int32(1), np.int64(4), np.float32(0.5), "cpu"
    )
    assert config.max_tools == 1
    EnvConfig(source=photos, canvas=None, tool_cost=1)


def test_every_form_refuses_unusable_values(make: Make) -> None:
    for name, value in (("max_tools", 0), ("obs_size", -1), ("tool_cost", float("nan")), ("device", "cud")):
        with pytest.raises(EnvArgumentError, match=f"^{name}: "):
            make(**{name: value})


@pytest.mark.parametrize(
    ("misspelt", "meant"), [("max_tool", "max_tools"), ("obssize", "obs_size"), ("tol_cost", "tool_cost")]
)
def test_a_misspelt_argument_is_named_with_a_suggestion(make: Make, misspelt: str, meant: str) -> None:
    with pytest.raises(EnvArgumentError, match=rf"found '{misspelt}'\. Did you mean '{meant}'") as caught:
        make(**{misspelt: 2})
    assert isinstance(caught.value, OperaError)


def test_arguments_of_the_other_forms_are_suggested(toolbox: Toolbox) -> None:
    vector = {"toolbox": toolbox, "num_envs": 2, "vectorization_mode": "vector_entry_point"}
    with pytest.raises(EnvArgumentError, match="Did you mean 'group_size'"):
        gym.make_vec("OPERA-Restore-v0", **vector, groupsize=2)
    with pytest.raises(EnvArgumentError, match="Did you mean 'mask_upscale'"):
        gym.make("OPERA-RestoreStepwise-v0", toolbox=toolbox, mask_upscal=True)
    with pytest.raises(EnvArgumentError, match=r"found 'mask_upscale'\.$"):
        gym.make("OPERA-Restore-v0", toolbox=toolbox, mask_upscale=True)


@pytest.mark.parametrize("name", ["num_envs", "group_size"])
@pytest.mark.parametrize("value", [0, -2, 2.0, "4", True])
def test_counts_of_the_vector_form(toolbox: Toolbox, name: str, value: Any) -> None:
    options = {"num_envs": 4, "group_size": 1, "vectorization_mode": "vector_entry_point"} | {name: value}
    with pytest.raises(EnvArgumentError, match=f"^{name}: expected a whole number"):
        gym.make_vec("OPERA-Restore-v0", toolbox=toolbox, **options)


def test_an_unknown_option_of_reset_raises_and_changes_nothing(make: Make) -> None:
    env, undisturbed = make(), make()
    first = [env.reset(seed=5)[1]["sample"], undisturbed.reset(seed=5)[1]["sample"]]
    with pytest.raises(EnvArgumentError, match=r"found 'smaple'\. Did you mean 'sample'"):
        env.reset(seed=9, options={"smaple": 1})
    with pytest.raises(EnvArgumentError, match="found 'seed'"):
        env.reset(options={"sample": None, "seed": 3})
    with pytest.raises(EnvArgumentError, match=r"^options: expected a dictionary, or None, found 3"):
        env.unwrapped.reset(options=3)
    after = [env.reset()[1]["sample"], undisturbed.reset()[1]["sample"]]
    for ours, theirs in (first, after):
        assert np.array_equal(ours["seed"], theirs["seed"])


def test_a_sample_that_cannot_be_made_changes_nothing(make: Make) -> None:
    env, undisturbed = make(), make()
    env.reset(seed=5), undisturbed.reset(seed=5)
    with pytest.raises(OperaError):
        env.reset(seed=9, options={"sample": SampleSpec("elsewhere", 0)})
    assert np.array_equal(env.reset()[1]["sample"]["seed"], undisturbed.reset()[1]["sample"]["seed"])


class _ThreeKinds:
    """A source of one labelled image, one without degradations and one whose labels are not known."""

    name, degradations = "kinds", ("noise",)
    labels = (frozenset({"noise"}), frozenset[str](), None)

    def __len__(self) -> int:
        return 3

    def draw(self, rng: np.random.Generator) -> SampleSpec:
        return SampleSpec(self.name, int(rng.integers(3)))

    def list_specs(self, count: int, recipes: Any, rng: np.random.Generator) -> list[SampleSpec]:
        return [SampleSpec(self.name, index % 3) for index in range(count)]

    def make(self, spec: SampleSpec) -> Sample:
        image = torch.full((3, 32, 32), (1 + spec.index) / 4)
        return Sample(image, image, self.labels[spec.index], (32, 32), spec)


EXPECTED = {0: ("noise",), 1: (), 2: None}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_clean_images_and_unknown_labels_differ_in_infos(name: str, toolbox: Toolbox) -> None:
    """``()`` and None survive the merging of infos in vectors, Gymnasium's and ours, and its inverse."""
    options = {
        "toolbox": toolbox,
        "reward": "classic",
        "source": _ThreeKinds(),
        "max_tools": 2,
        "obs_size": 32,
    }
    env = gym.make(name, **options)
    for index, labels in EXPECTED.items():
        _, info = env.reset(options={"sample": SampleSpec("kinds", index)})
        assert info["degradations"] == labels
    ours = gym.make_vec(name, num_envs=16, vectorization_mode="vector_entry_point", **options)
    theirs = SyncVectorEnv([lambda: gym.make(name, **options)] * 16, autoreset_mode=AutoresetMode.SAME_STEP)
    for vector in (ours, theirs):
        _, infos = vector.reset(seed=1)
        assert set(infos["sample"]["index"]) == {0, 1, 2}
        stop = np.zeros(vector.action_space.shape, np.int64)
        for merged in (infos, vector.step(stop)[-1]["final_info"]):
            assert merged["_degradations"].all()
            labels = dict(zip(merged["sample"]["index"], merged["degradations"], strict=True))
            assert labels == EXPECTED
    listed = DictInfoToList(ours).reset(seed=1)[1]
    assert all(info["degradations"] == EXPECTED[info["sample"]["index"]] for info in listed)
