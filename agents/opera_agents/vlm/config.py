"""Settings of GRPO training beside those of TRL."""

# pyright: reportPrivateImportUsage=false
# TRL exports its names lazily.

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from trl import GRPOConfig, ModelConfig

from opera_agents.common.runs import run_settings
from opera_agents.vlm.saved import identify_model
from opera_env.errors import SettingError
from opera_env.runs import (
    NonNegativeFloat,
    PositiveInt,
    Range,
    check_settings,
    identify_images,
    identify_toolbox,
)
from opera_env.tools import Toolbox

_TRAINING_OPTIONS = (
    *("learning_rate", "lr_scheduler_type", "max_steps", "num_train_epochs", "seed", "max_grad_norm"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations", "temperature"),
    *("max_completion_length", "loss_type", "beta", "scale_rewards", "num_iterations", "epsilon"),
)
"""Options of TRL that determine the result."""


@dataclass
class EnvArguments:
    """The environment that the model is trained in, and its validation."""

    images: list[str] = field(metadata={"help": "Folders of clean photographs for training."})
    val: str = field(metadata={"help": "Folder of clean photographs for validation."})
    toolbox: str = field(
        default="lite",
        metadata={"help": "Name of a shipped toolbox, or a folder written by Toolbox.save."},
    )
    trust_code: bool = field(
        default=False,
        metadata={
            "help": "Run code that the toolbox folder names: networks of your own (module:attribute) and "
            "TorchScript."
        },
    )
    reward: str = field(
        default="lite",
        metadata={"help": "Reward that computes R_q: a preset, or module:attribute, whose code runs."},
    )
    turns: bool = field(
        default=False,
        metadata={
            "help": "Train turn by turn: the model calls functions that apply tools or take them back, and "
            "observes the result of each call. Its warm start has --answer-kind turns."
        },
    )
    reward_form: str = field(
        default="product", metadata={"help": "Form of the combined reward: product (the paper's) or gated."}
    )
    judge: str = field(
        default="rules",
        metadata={
            "help": "Judge of R_c: rules, none (no R_c), a server's address, or a model's folder or name."
        },
    )
    judge_model: str = field(
        default="default", metadata={"help": "Name of the judge's model on the server."}
    )
    tool_cost: NonNegativeFloat = field(
        default=0.0, metadata={"help": "Cost of each tool, subtracted from R_q."}
    )
    max_tools: Annotated[int, Range(1, 64)] = field(
        default=6, metadata={"help": "Maximum number of tools in a plan."}
    )
    canvas: PositiveInt = field(default=128, metadata={"help": "Side of the square crops in pixels."})
    clean_weight: NonNegativeFloat = field(
        default=1.5,
        metadata={
            "help": "Sampling weight of clean photographs; those with one, two and three degradations have "
            "1, 3 and 5."
        },
    )
    benchmark_fraction: Annotated[float, Range(0, 0.95)] = field(
        default=0.5,
        metadata={
            "help": "Fraction of the photographs with two and with three degradations that have one of the "
            "benchmark's combinations; the others have any plausible one."
        },
    )
    degradations: str | None = field(
        default=None,
        metadata={
            "help": "Custom degradations beside the built-in ones: module:attribute of one or a list, "
            "whose code runs. The recipes are then all plausible orders of up to three degradations, and "
            "answers name them."
        },
    )
    num_samples: PositiveInt = field(default=16_000, metadata={"help": "Number of samples in an epoch."})
    system_prompt_file: str | None = field(
        default=None,
        metadata={
            "help": "File of the system prompt; by default the prompt of the model's card, or, without a "
            "card, one built from the toolbox."
        },
    )
    val_count: PositiveInt = field(default=48, metadata={"help": "Number of validation samples."})
    val_every: PositiveInt = field(default=20, metadata={"help": "Steps between validations."})
    threads: PositiveInt = field(default=2, metadata={"help": "Number of CPU threads."})

    def __post_init__(self) -> None:
        check_settings(self)
        if self.reward_form not in ("product", "gated"):
            raise SettingError("reward_form", self.reward_form, "product or gated")
        if self.turns and self.judge != "none":
            expected = "none with --turns true, since the reward of calls has no R_c"
            raise SettingError("judge", self.judge, expected)


def settings(
    env_args: EnvArguments,
    training_args: GRPOConfig,
    model_args: ModelConfig,
    system_prompt: str,
    toolbox: Toolbox,
) -> dict[str, Any]:
    """Returns the settings that determine the result, with the content of what the run was given.

    Raises:
        SampleError: If a folder of photographs does not exist or holds none.
    """
    runtime_fields = ("val", "system_prompt_file", "val_count", "val_every", "threads")
    images = identify_images(*map(Path, env_args.images))
    # None, not False: runs of earlier versions have no such setting.
    turns = True if env_args.turns else None
    env_settings = run_settings(env_args, exclude=runtime_fields, images=images, turns=turns)
    training_settings = {name: getattr(training_args, name) for name in _TRAINING_OPTIONS}
    if env_args.turns:
        training_settings["max_tool_calling_iterations"] = training_args.max_tool_calling_iterations
    model_settings = {
        "model": identify_model(model_args.model_name_or_path),
        "lora": model_args.lora_r if model_args.use_peft else None,
        "system_prompt": system_prompt,
        "toolbox": identify_toolbox(env_args.toolbox, toolbox.fingerprint),
    }
    return env_settings | training_settings | model_settings


def check_arguments(training_args: GRPOConfig, model_args: ModelConfig) -> None:
    """Checks the arguments of TRL that it does not check itself.

    Raises:
        SettingError: If a number is not finite, no model is named, or code of models should be run.
    """
    for name in _TRAINING_OPTIONS:
        value = getattr(training_args, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(name, value, "a finite number")
    if not model_args.model_name_or_path:
        raise SettingError("model_name_or_path", "", "the folder or the name of a model")
    if getattr(training_args, "trust_remote_code", False) or getattr(
        model_args, "trust_remote_code", False
    ):
        raise SettingError("trust_remote_code", True, "false, because code of models is never run")
