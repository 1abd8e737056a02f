"""Trains a vision-language model by GRPO; answers are rewarded for the quality that their plans reach.

Example:
    python -m opera_agents.vlm.grpo --config tiny --model_name_or_path runs/vlm-warm/model \
        --images bsds500/train --val bsds500/val --output_dir runs/vlm
    accelerate launch --config_file fsdp2.yaml -m opera_agents.vlm.grpo --config 7b \
        --images ... --val ... --output_dir runs/vlm-7b
    python -m opera_agents.vlm.grpo --config tiny-turns --model_name_or_path runs/vlm-turns-warm/model \
        --images ... --val ... --output_dir runs/vlm-turns

``--config`` takes a file of settings, or the name of a preset: ``tiny``, ``tiny-turns`` or ``7b``.
TRL runs the training: all options of :class:`trl.GRPOConfig` and :class:`trl.ModelConfig` are options here.
With ``--turns true`` the model calls functions that apply tools or take them back, and observes results.
The same command resumes an interrupted run. Scalars, and answers with their images, are for TensorBoard.

Source: section 4.2 of the paper: groups of 8, no KL term, R = R_q R_d R_f R_c, reasoning before the answer.
"""

# pyright: reportPrivateImportUsage=false
# TRL exports its names lazily.

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from trl import GRPOConfig, GRPOTrainer, ModelConfig, get_peft_config

from opera_agents.common.photographs import check_photographs, training_source
from opera_agents.common.runs import set_threads
from opera_agents.common.validation import Validation, ValidationResult
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.callbacks import ValidationCallback
from opera_agents.vlm.checkpoints import (
    CheckpointDigests,
    find_checkpoint,
    step_of,
    write_errors_explained,
)
from opera_agents.vlm.command_line import parse_arguments
from opera_agents.vlm.config import EnvArguments, check_arguments, settings
from opera_agents.vlm.data import make_dataset
from opera_agents.vlm.objectives import make_objective
from opera_agents.vlm.pretrained import (
    load_processor,
    load_vision_language_model,
    placeholder_tokens,
)
from opera_agents.vlm.prompt import build_function_system_prompt, build_system_prompt
from opera_agents.vlm.saved import load_card, replace_model, save_card, save_processor
from opera_agents.vlm.stepwise import VLMFunctionAgent
from opera_env.cli.program import exit_code
from opera_env.degradations import load_degradations
from opera_env.execution import PrefixCache
from opera_env.runs import claim_run_dir, describe_progress
from opera_env.scoring import PlanScorer
from opera_env.signals import stops_explained
from opera_env.tools import Toolbox


def train(env_args: EnvArguments, training_args: GRPOConfig, model_args: ModelConfig) -> ValidationResult:
    """Trains a model; returns its last validation.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more steps, or with damaged checkpoints.
        AgentError: If the model cannot be loaded, was trained for the other kind of answers, or names other
            degradations and no system prompt is given.
        ToolboxMismatchError: If the model was trained for another toolbox and no system prompt is given.
    """
    # Set-up. Nothing is written before all that was named has been found.
    check_arguments(training_args, model_args)
    set_threads(env_args.threads)
    if env_args.turns and training_args.max_tool_calling_iterations is None:
        # An episode ends after so many decisions.
        training_args.max_tool_calling_iterations = 2 * env_args.max_tools
    out, model_name = Path(str(training_args.output_dir)), str(model_args.model_name_or_path)
    toolbox = Toolbox.load(env_args.toolbox, training_args.device, env_args.trust_code)
    custom_degradations = load_degradations(env_args.degradations)
    images = [Path(folder) for folder in env_args.images]
    check_photographs(images, [env_args.canvas])
    source = training_source(
        images,
        env_args.canvas,
        None,
        env_args.clean_weight,
        degradations=custom_degradations,
        benchmark_fraction=env_args.benchmark_fraction,
    )
    labels = source.degradations
    system_prompt = load_system_prompt(env_args, model_name, toolbox, labels)
    processor = load_processor(model_name, padding_side="left")
    model = load_vision_language_model(model_name, dtype=model_args.dtype or "float32")
    # Transformers 5.23 saves in the hub's format by default, but silently ignores it when a run is resumed.
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
    objective = make_objective(env_args, toolbox, source, training_args.num_generations or 8)
    validation_args = env_args.val_count, env_args.canvas, env_args.max_tools, env_args.tool_cost
    validation = Validation(
        Path(env_args.val),
        toolbox,
        env_args.reward,
        *validation_args,
        scorer=PlanScorer(toolbox, env_args.reward, cache=PrefixCache() if env_args.turns else None),
        degradations=custom_degradations,
    )
    make_agent = partial(wrap_model, toolbox, processor, system_prompt, env_args, training_args, labels)
    callback = ValidationCallback(validation, make_agent, out, env_args.val_every)
    run_settings = settings(env_args, training_args, model_args, system_prompt, toolbox)
    checkpoint = find_checkpoint(out, training_args.world_size)
    is_main_process = training_args.process_index == 0
    with (
        claim_run(out, run_settings, checkpoint, training_args.max_steps)
        if is_main_process
        else nullcontext()
    ):
        training_args.reward_weights = objective.reward_weights
        training_args.remove_unused_columns = False
        if not training_args.use_vllm:  # TRL suppresses the token of an image, and not those of videos
            given = cast("dict[str, Any]", training_args.generation_kwargs or {})
            training_args.generation_kwargs = {"suppress_tokens": placeholder_tokens(model)} | given
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=cast(Any, objective.reward_functions),
            environment_factory=cast(Any, objective.environment_factory),
            args=training_args,
            train_dataset=make_dataset(source, system_prompt, env_args.num_samples, training_args.seed),
            processing_class=processor,
            peft_config=get_peft_config(model_args),
            callbacks=[callback, CheckpointDigests()],
        )
        with write_errors_explained(out):
            if checkpoint is not None and step_of(checkpoint) == training_args.max_steps:
                trainer._load_from_checkpoint(str(checkpoint))  # train() would take one step more
            else:
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        with write_errors_explained(out), replace_model(out / "model", is_main_process) as folder:
            trainer.save_model(str(folder))
            if is_main_process:
                # It is a pickle with paths of this machine, which nothing reads.
                (folder / "training_args.bin").unlink(missing_ok=True)
                save_processor(processor, folder)
                save_card(system_prompt, toolbox, folder, labels, env_args.turns)
    return callback.last_result or validation(make_agent(trainer.accelerator.unwrap_model(trainer.model)))


def claim_run(
    out: Path, run_settings: Mapping[str, Any], checkpoint: Path | None, max_steps: int
) -> AbstractContextManager[Any]:
    """Locks the folder of a run, and prints where the run continues.

    Args:
        out: Folder of the run.
        run_settings: Its settings.
        checkpoint: The checkpoint to resume from; None for a new run.
        max_steps: Number of steps that the settings ask for; at most 0 if they name epochs instead.
    """
    done = 0 if checkpoint is None else step_of(checkpoint)
    progress = describe_progress(out, done, max_steps, "max_steps") if max_steps > 0 else None
    lock = claim_run_dir(out, run_settings, mutable=("max_steps", "num_train_epochs"))
    if progress is not None:
        print(progress)
    return lock


def load_system_prompt(
    env_args: EnvArguments, model_name: str, toolbox: Toolbox, labels: Sequence[str]
) -> str:
    """Returns the system prompt: from a file, from the model's card, or built from toolbox and labels.

    Raises:
        ToolboxMismatchError: If the model was trained for another toolbox.
        AgentError: If the model was trained for other labels, or for the other kind of answers.
    """
    card = load_card(model_name)
    if card is not None:
        card.check_turns(env_args.turns)
    if env_args.system_prompt_file is not None:
        return Path(env_args.system_prompt_file).read_text()
    if card is None and env_args.turns:
        return build_function_system_prompt(toolbox, env_args.max_tools, labels, "apply_tool")
    if card is None:
        return build_system_prompt(toolbox, env_args.max_tools, labels)
    card.check(toolbox, labels)
    return card.system_prompt


def wrap_model(
    toolbox: Toolbox,
    processor: Any,
    system_prompt: str,
    env_args: EnvArguments,
    training_args: GRPOConfig,
    labels: Sequence[str],
    model: Any,
) -> VLMAgent:
    """Returns the model in training as an agent."""
    agent_class = VLMFunctionAgent if env_args.turns else VLMAgent
    return agent_class(
        toolbox,
        model,
        processor,
        system_prompt,
        env_args.max_tools,
        training_args.max_completion_length or 512,
        degradations=labels,
    )


def main(arguments: Sequence[str]) -> int:
    """Parses the arguments and trains; returns the exit code."""
    words, folders = list(arguments), list[Path]()
    # TRL has a setting --debug with a value; without one, it prints tracebacks, as in all programs here.
    debug = any(
        word == "--debug" and following.startswith("--") for word, following in pairwise([*words, "--"])
    )
    if debug:
        words.remove("--debug")

    def run() -> None:
        env_args, training_args, model_args = parse_arguments(words)
        folders.append(Path(str(training_args.output_dir)))
        with stops_explained(f"the same command resumes {folders[0]}"):
            train(env_args, training_args, model_args)

    return exit_code(run, lambda: (folders[0] if folders else None, debug))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
