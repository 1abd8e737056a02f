"""All trainers, with settings that take seconds, and their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opera_agents import joint
from opera_agents.cotraining import train as cotraining
from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.critic import train as critic
from opera_agents.critic.config import CriticConfig
from opera_agents.planner import reward_table
from opera_agents.planner import train as planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.saved import PolicyCard, save_policy
from opera_agents.ppo import train as ppo
from opera_agents.ppo.config import PPOConfig
from opera_agents.rl_restore import train as rl_restore
from opera_agents.rl_restore.config import RLRestoreConfig
from opera_agents.vlm import grpo, warm_start
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.answers import random_answer
from opera_agents.vlm.command_line import parse_arguments
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.reward import AnswerScorer
from opera_agents.vlm.saved import save_card
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_agents.vlm.warm_start_config import VLMWarmStartConfig
from opera_baselines import fit_recipe_best
from opera_env.tool_training import train as tool_training
from opera_env.tool_training.config import TrainConfig
from opera_env.tools import Toolbox
from tests.faults.trainers import Inputs, Trainer


@dataclass(frozen=True)
class GrpoConfig:
    """The settings of GRPO, which has the command line of TRL."""

    words: str
    """The words of the command line, between commas."""
    out: Path
    """Folder of the run."""


def train_grpo(config: GrpoConfig) -> None:
    words = [*config.words.split(","), "--output_dir", str(config.out)]
    grpo.train(*parse_arguments(words))


_SMALL = "--images {images} --toolbox {toolbox} --reward classic --canvas 64 --threads 1"

TRAINERS = {
    "planner": Trainer(
        PlannerConfig,
        planner.train,
        f"{_SMALL} --val {{images}} --warm-start-steps 2 --warm-start-batch-size 2 --updates 4 "
        "--batch-size 2 --group-size 2 --n-epochs 1 --max-tools 2 --save-every 1 --val-every 2 "
        "--val-count 2 --device cpu --no-autocast",
        read_again=("**/config.json", "**/checkpoint.pt", "**/warm.safetensors"),
    ),
    "critic": Trainer(
        CriticConfig,
        critic.train,
        f"{_SMALL} --val {{images}} --shards 2 --samples 3 --val-count 3 --steps 4 --val-every 1 "
        "--crop-size 48 --photographs-per-batch 2 --images-per-photograph 2 --device cpu --no-autocast",
        read_again=("**/config.json", "**/checkpoint.pt", "**/000.npz"),
    ),
    "reward table": Trainer(
        reward_table.RewardTableConfig,
        reward_table.collect,
        f"{_SMALL} --shards 4 --samples 2 --candidates 4 --refined 1 --max-tools 2",
        read_again=("**/config.json",),
    ),
    "cotraining": Trainer(
        CotrainingConfig,
        cotraining.train,
        f"{_SMALL} --val {{images}} --agent matched --epochs 4 --steps-per-epoch 1 --batch-size 2 "
        "--loss pixel --max-tools 2 --val-count 2 --device cpu --no-autocast",
    ),
    "joint": Trainer(
        joint.JointConfig,
        joint.train,
        f"{_SMALL} --val {{images}} --planner {{planner}} --epochs 2 --steps-per-epoch 1 "
        "--tools-batch-size 2 --loss pixel --updates 2 --planner-batch-size 1 --max-tools 2 --val-count 2 "
        "--device cpu",
    ),
    "tool": Trainer(
        TrainConfig,
        tool_training.train,
        "unet.denoise --images {images} --val {images} --steps 3 --val-every 1 --val-side 32 --threads 1 "
        "--device cpu --no-autocast",
        folder="run/unet.denoise",
    ),
    "recipe_best": Trainer(
        fit_recipe_best.FitConfig,
        fit_recipe_best.fit,
        "--images {images} --toolbox {toolbox} --reward classic --recipes noise jpeg noise+jpeg "
        "--images-per-recipe 1 --max-tools 2 --threads 1",
        out="run/plans.json",
        read_again=("**/plans.json",),
    ),
    "ppo": Trainer(
        PPOConfig,
        ppo.train,
        f"{_SMALL} --val {{images}} --total-timesteps 48 --warm-start-steps 2 --warm-start-batch-size 2 "
        "--num-envs 3 --n-steps 4 --batch-size 6 --max-tools 2 --obs-size 32 --save-every 1 --val-every 2 "
        "--val-count 2 --device cpu",
        is_slow=True,
    ),
    "rl_restore": Trainer(
        RLRestoreConfig,
        rl_restore.train,
        f"{_SMALL} --val {{images}} --total-timesteps 48 --num-envs 3 --n-steps 4 --gradient-steps 1 "
        "--batch-size 4 --buffer-size 30 --learning-starts 11 --target-update-interval 12 --max-tools 2 "
        "--obs-size 32 --save-every 1 --val-every 2 --val-count 2 --device cpu",
        is_slow=True,
    ),
    "vlm warm start": Trainer(
        VLMWarmStartConfig,
        warm_start.train,
        f"{_SMALL} --val {{images}} --steps 4 --batch-size 2 --max-tools 2 --val-count 1 --save-every 1 "
        "--device cpu",
        read_again=("run/config.json", "run/checkpoint.pt"),
        is_slow=True,
        warns=True,
    ),
    "vlm grpo": Trainer(
        GrpoConfig,
        train_grpo,
        "--words="
        + f"{_SMALL} --val {{images}} --model_name_or_path {{vlm}} --max_tools 2 --num_samples 16 "
        "--val_count 1 --val_every 4 --learning_rate 1e-2 --max_steps 4 --per_device_train_batch_size 4 "
        "--num_generations 2 --max_completion_length 6 --loss_type grpo --beta 0 --bf16 false "
        "--use_cpu true --logging_steps 1 --save_steps 1 --save_total_limit 2 --report_to none "
        "--disable_tqdm true".replace(" ", ","),
        results="run/model",  # the checkpoints of TRL have times and paths in them
        read_again=(
            "run/config.json",
            "run/checkpoint-4/model.safetensors",
            "run/checkpoint-4/optimizer.pt",
        ),
        is_slow=True,
        warns=True,
    ),
}
"""The trainers by name."""


def make_inputs(images: Path, toolbox: Path, folder: Path) -> Inputs:
    """Makes the inputs of all trainers; the planner and the language model have random weights."""
    tools, rng = Toolbox.load(toolbox), np.random.default_rng(0)
    card = PolicyCard(tools.signature, tools.names, max_tools=2)
    save_policy(card.build(), card, folder / "planner")
    texts = [make_grammar(tools).format(random_answer(tools, rng)) for _ in range(50)]
    processor = tiny_processor(tools, texts)
    processor.save_pretrained(folder / "vlm")
    tiny_model(processor, hidden_size=32, num_layers=1).save_pretrained(folder / "vlm")
    save_card("Restore it.", tools, folder / "vlm")
    return Inputs(images, toolbox, folder / "planner", folder / "vlm")


@contextmanager
def short_answers_and_rewards() -> Iterator[None]:
    """Limits answers, and rewards errors by their length: untrained models earn nothing, and learn nothing.

    Forked processes inherit both.
    """
    original = AnswerScorer._score_one

    def score_one(self: AnswerScorer, decision: Any, *args: Any) -> Any:
        return replace(original(self, decision, *args), total=float(len(str(decision.error))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerScorer, "_score_one", score_one)
        patch.setattr(VLMAgent, "from_pretrained", partial(VLMAgent.from_pretrained, max_new_tokens=8))
        yield
