"""A toolbox with networks of one's own reaches every command and trainer, with a reward of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from PIL import Image
from torch import nn

from opera_agents.cotraining import config as cotraining_config
from opera_agents.cotraining import evaluate as cotraining_evaluate
from opera_agents.cotraining import train as cotraining_train
from opera_agents.critic import collect as critic_collect
from opera_agents.critic import config as critic_config
from opera_agents.critic import evaluate as critic_evaluate
from opera_agents.critic import train as critic_train
from opera_agents.joint import JointConfig
from opera_agents.planner import config as planner_config
from opera_agents.planner import reward_table
from opera_agents.planner import train as planner_train
from opera_agents.ppo import config as ppo_config
from opera_agents.ppo import train as ppo_train
from opera_agents.vlm.config import EnvArguments
from opera_agents.vlm.warm_start import VLMWarmStartConfig
from opera_baselines import fit_recipe_best
from opera_env.cli import main
from opera_env.cli.options.bench import BenchCommand
from opera_env.cli.options.compare import Compare
from opera_env.cli.options.restore import Restore
from opera_env.cli.options.study import StudyCommand
from opera_env.envs.config import EnvConfig
from opera_env.errors import UntrustedCodeError
from opera_env.tools import Toolbox
from tests.own_tools import Blend

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

REWARD = "tests.own_rewards:BRIGHT"


@pytest.fixture
def box(tmp_path: Path) -> str:
    torch.manual_seed(0)
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1))).save(tmp_path / "net.pt")
    (
        Toolbox()
        .add("mine.blend", "tests.own_tools:Blend", options={"width": 2}, degradations=["noise", "jpeg"])
        .add("mine.invert", "tests.own_tools:invert", degradations=["low_light"])
        .add("mine.script", tmp_path / "net.pt", degradations=["rain", "haze"])
        .save(tmp_path / "box")
    )
    return str(tmp_path / "box")


def small(config_class: Any, photos: Path, out: Path, box: str, **more: Any) -> Any:
    """Makes a configuration with those of the small settings that its class has."""
    settings: dict[str, Any] = {
        "images": photos if config_class is fit_recipe_best.FitConfig else (photos,),
        "val": photos,
        "out": out,
        "toolbox": box,
        "reward": REWARD,
        "canvas": 64,
        "device": "cpu",
        "max_tools": 2,
        "threads": 1,
        "val_count": 2,
    }
    names = {field.name for field in fields(config_class)}
    return config_class(**{name: value for name, value in (settings | more).items() if name in names})


TRAINERS: dict[str, tuple[Callable[[Any], Any], type, dict[str, Any]]] = {
    "planner": (
        planner_train.train,
        planner_config.PlannerConfig,
        {"warm_start_steps": 2, "warm_start_batch_size": 2, "updates": 2, "batch_size": 2, "group_size": 2},
    ),
    "reward_table": (
        reward_table.collect,
        reward_table.RewardTableConfig,
        {"samples": 2, "shards": 1, "n": 2},
    ),
    "ppo": (
        ppo_train.train,
        ppo_config.PPOConfig,
        {
            **{"total_timesteps": 24, "warm_start_steps": 2, "warm_start_batch_size": 3, "num_envs": 2},
            **{"n_steps": 6, "batch_size": 6, "obs_size": 32},
        },
    ),
    "cotraining": (
        cotraining_train.train,
        cotraining_config.CotrainingConfig,
        {"agent": "matched", "epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "loss": "pixel"},
    ),
    "critic_collect": (
        critic_collect.collect,
        critic_collect.CollectConfig,
        {"samples": 2, "shards": 1, "workers": 1},
    ),
    "critic": (
        critic_train.train,
        critic_config.CriticConfig,
        {
            **{"shards": 2, "samples": 4, "val_count": 4, "steps": 2, "photographs_per_batch": 2},
            **{"images_per_photograph": 3, "warmup_steps": 1, "val_every": 2},
        },
    ),
    "recipe_best": (
        fit_recipe_best.fit,
        fit_recipe_best.FitConfig,
        {"recipes": ("noise+jpeg",), "images_per_recipe": 1, "beam_width": 1},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_takes_it_and_refuses_it_without_trust(
    name: str, photos: Path, tmp_path: Path, box: str
) -> None:
    train, config_class, more = TRAINERS[name]
    with pytest.raises(UntrustedCodeError, match="--trust-code"):
        train(small(config_class, photos, tmp_path / "refused", box, **more))
    assert not (tmp_path / "refused/config.json").exists()
    train(small(config_class, photos, tmp_path / "run", box, trust_code=True, **more))
    settings = [json.loads(path.read_text()) for path in (tmp_path / "run").rglob("config.json")]
    assert all(REWARD in json.dumps(row) and "trust_code" not in row for row in settings)


@pytest.mark.slow
def test_cotraining_trains_the_own_network_and_a_resumed_run_loads_it(
    photos: Path, tmp_path: Path, box: str
) -> None:
    train, config_class, more = TRAINERS["cotraining"]
    config = small(config_class, photos, tmp_path / "run", box, trust_code=True, **more)
    train(config)
    train(config)  # finished: loads what it saved
    trained = Toolbox.load(tmp_path / "run/toolbox", trust_code=True)
    assert trained.names == ("mine.blend", "mine.invert", "mine.script")
    assert isinstance(trained["mine.blend"].module, Blend)
    before = Toolbox.load(box, trust_code=True)
    assert trained.signature == before.signature


@pytest.mark.parametrize(
    "config_class",
    [
        *(row[1] for row in TRAINERS.values()),
        *(cotraining_evaluate.EvaluateConfig, critic_evaluate.EvaluateConfig, JointConfig),
        *(EnvArguments, VLMWarmStartConfig, EnvConfig),
        *(Compare, Restore, StudyCommand, BenchCommand),
    ],
    ids=lambda config_class: config_class.__name__,
)
def test_everything_that_loads_a_toolbox_can_be_told_to_trust_it(config_class: Any) -> None:
    assert is_dataclass(config_class)
    defaults = {field.name: field.default for field in fields(config_class)}
    assert defaults["trust_code"] is False


@pytest.mark.parametrize("name", ["OPERA-Restore-v0", "OPERA-RestoreStepwise-v0"])
def test_environments_take_the_folder(
    make_env: Callable[..., gym.Env[Any, Any]], box: str, name: str
) -> None:
    with pytest.raises(UntrustedCodeError, match=r"tests\.own_tools:Blend"):
        make_env(name, toolbox=box)
    env: Any = make_env(name, toolbox=box, trust_code=True)
    env.reset(seed=0)
    _, _, _, _, info = env.step([1, 2, 3] if name == "OPERA-Restore-v0" else 1)
    assert info["plan"][0] == "mine.blend"
    assert env.unwrapped.load_toolbox(box) == env.unwrapped.toolbox.fingerprint


def run(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(args)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, err + out


def test_commands_take_it_and_refuse_it_without_trust(
    photos: Path, tmp_path: Path, box: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph = photos / "0.png"
    compare = ["compare", "--agents", "untouched,greedy", "--images", str(photos), "--n", "2", "--no-sheet"]
    restore = ["restore", str(photograph), "-o", str(tmp_path / "out"), "--agent", "greedy"]
    common = ["--toolbox", box, "--device", "cpu"]
    for command in (
        [*compare, "--canvas", "64", "--reward", "classic", *common],
        [*restore, *common],
        ["tools", "list", "--toolbox", box],
    ):
        code, printed = run(command, capsys)
        assert code != 0 and "tests.own_tools:Blend" in printed and "--trust-code" in printed
        code, printed = run([*command, "--trust-code"], capsys)
        assert code == 0, printed
    assert Image.open(next((tmp_path / "out").iterdir())).size == Image.open(photograph).size
