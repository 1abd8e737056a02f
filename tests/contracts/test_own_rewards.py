"""A reward of one's own is found by its name wherever a preset is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from numpy.random import default_rng

from opera_env.cli import main
from opera_env.data import Source
from opera_env.errors import RewardError, UnknownPresetError
from opera_env.evaluation.study import run_study
from opera_env.reward import REWARD_PRESETS, RewardTerm, get_reward
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.own_rewards import BRIGHT

OWN = "tests.own_rewards:BRIGHT"


def test_a_reward_is_found_by_name() -> None:
    assert get_reward(OWN) is BRIGHT
    assert get_reward("tests.own_rewards:make_bright") is BRIGHT
    assert get_reward(BRIGHT) is BRIGHT
    assert get_reward("lite") is REWARD_PRESETS["lite"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tests.no_such_module:BRIGHT", r"cannot be imported: .*no_such_module.*module:attribute"),
        ("tests.own_rewards:ABSENT", r"cannot be imported: .*ABSENT"),
        ("tests.own_rewards:NOT_A_REWARD", r"expected an opera_env\.reward\.Reward.*found 3"),
        (":BRIGHT", r"cannot be imported"),
        ("tests.own_rewards:", r"cannot be imported"),
    ],
)
def test_names_of_anything_else_are_refused(name: str, says: str) -> None:
    with pytest.raises(RewardError, match=says) as caught:
        get_reward(name)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_says_how_own_rewards_are_named() -> None:
    with pytest.raises(UnknownPresetError, match=r"'light'.*lite.*module:attribute"):
        get_reward("light")


@pytest.mark.parametrize("bounds", [(1, 1, 5), (0, float("inf"), 5), (0, 1, float("nan"))], ids=repr)
def test_terms_that_cannot_be_computed_are_refused(bounds: tuple[float, float, float]) -> None:
    with pytest.raises(RewardError, match="psnr_y"):
        RewardTerm("psnr_y", *bounds)


@pytest.mark.parametrize("name", ["OPERA-Restore-v0", "OPERA-RestoreStepwise-v0"])
def test_environments_take_the_name(make_env: Callable[..., gym.Env[Any, Any]], name: str) -> None:
    by_name, by_object = (make_env(name, reward=reward) for reward in (OWN, BRIGHT))
    infos = []
    for env in (by_name, by_object):
        env.reset(seed=0)
        action = [1, 0, 0] if name == "OPERA-Restore-v0" else 1
        infos.append(env.step(action)[4])
    assert infos[0]["r_q"] == infos[1]["r_q"] == 10 * infos[0]["metrics"]["mean_level"]


def test_compare_takes_and_records_the_name(photos: Path, tmp_path: Path, toolbox: Toolbox) -> None:
    toolbox_folder, results = tmp_path / "box", tmp_path / "out.json"
    Toolbox.load("lite").subset(["brighten.gamma_correction"]).save(toolbox_folder)
    args = ["compare", "--agents", "untouched,greedy", "--images", str(photos), "--n", "2", "--no-sheet"]
    args += ["--toolbox", str(toolbox_folder), "--canvas", "64", "--device", "cpu", "--json", str(results)]
    assert main([*args, "--reward", OWN]) == 0
    written = json.loads(results.read_text())
    assert "bright" in written["config"]["reward"].lower()
    rewards = {name: row["reward"]["mean"] for name, row in written["agents"].items()}
    assert rewards["greedy"] > rewards["untouched"]


def test_compare_refuses_a_wrong_name_in_one_line(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["compare", "--agents", "untouched", "--images", str(photos), "--n", "1", "--no-sheet"]
    assert main([*args, "--reward", "tests.own_rewards:ABSENT"]) != 0
    out, err = capsys.readouterr()
    assert "ABSENT" in err and "Traceback" not in err and not out


@pytest.mark.slow
@pytest.mark.needs_weights("lpips")
def test_a_study_takes_r_q_from_an_own_reward(source: Source, toolbox: Toolbox) -> None:
    """The metrics of the consensus are measured beside it."""
    samples = [source.make(spec) for spec in source.list_specs(2, [("noise",)], default_rng(0))]
    both = toolbox.subset(["tiny.blur", "tiny.brighten"])
    results = [run_study(both, samples, 1, reward) for reward in (OWN, BRIGHT, "lite")]
    assert results[0] == results[1]
    effects = [{(row.factor, row.metric): row.mean for row in result.effects} for result in results]
    assert all(effects[0][key] == effects[2][key] for key in effects[0] if key[1] != "r_q")
    assert any(effects[0][key] != effects[2][key] for key in effects[0] if key[1] == "r_q")


def test_the_same_scores_by_name_and_by_object(samples: list[Sample], toolbox: Toolbox) -> None:
    plans = [("tiny.brighten",)] * len(samples)
    by_name, by_object = (PlanScorer(toolbox, reward).score(samples, plans) for reward in (OWN, BRIGHT))
    assert [outcome.r_q for outcome in by_name] == [outcome.r_q for outcome in by_object]
