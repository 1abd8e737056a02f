"""Co-trains the tools under an agent's plans, so that they work well one after the other.

Example:
    python -m opera_agents.cotraining.train --images bsds500/train --val bsds500/val --out runs/tools
    python -m opera_agents.cotraining.train ... --trainable-tools unet.dehaze --rehearsal-prob 0.8
    accelerate launch --num_processes 2 -m opera_agents.cotraining.train --images ... --val ...

A run may be interrupted at any time: the same command resumes it from the last epoch, and it ends with the
same weights as an uninterrupted run, unless the agent samples its plans. TensorBoard shows curves and
images in the folder of the run; the best tools are in its subfolder ``toolbox``.

Source: section 4.3 and appendix D of the paper. Departures: rehearsal and misuse among the agent's plans; a
    learning rate for small networks, which decays.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from rich.progress import track
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import prefetch
from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.folders import (
    all_degradations,
    check_validation,
    identify_photographs,
    load_custom_degradations,
)
from opera_agents.common.photographs import check_photographs
from opera_agents.common.runs import set_threads
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.cotraining.training_examples import TrainingExampleSampler, fill_in_plans
from opera_env.agents import make_agent
from opera_env.cli.program import run_program
from opera_env.cotraining import ExecutionUpdate, add_tone_curves
from opera_env.devices import resolve_device
from opera_env.execution import PrefixCache
from opera_env.runs import (
    claim_run_dir,
    describe_progress,
    identify_agent,
    identify_toolbox,
)
from opera_env.scoring import PlanScorer
from opera_env.tools import Tool, Toolbox
from opera_env.types import Agent, Search


def train(config: CotrainingConfig) -> ValidationResult:
    """Trains tools; returns the validation of the best ones.

    Raises:
        RunError: If another run trains in the folder, or the folder holds a run with other settings, of
            more epochs, or with damaged files.
        ExecutionUpdateError: If a loss is not finite; the error names the plan. The best tools up to then
            are kept.
    """
    # Set-up: processes, tools, agent, validation. Nothing is written before all that was named is found.
    processes = PartialState(cpu=config.device == "cpu")
    folder, device = config.out, torch.device(resolve_device(config.device))
    if device.type == "cuda":
        device = processes.device or device
    set_threads(config.threads)
    torch.manual_seed(config.seed)  # Draws the weights of tone curves; NumPy draws everything else.
    toolbox = Toolbox.load(config.toolbox, device, config.trust_code)
    check_validation(config.images, config.val)
    check_photographs(config.images, [config.canvas])
    inputs = {
        "images": identify_photographs(*config.images),
        "val": identify_photographs(config.val),
        "toolbox": identify_toolbox(config.toolbox, toolbox.fingerprint),
        "agent": identify_agent(config.agent),
    }
    if config.add_tone_curves:
        toolbox = add_tone_curves(toolbox)
    degradations = load_custom_degradations(config.images, config.degradations)
    labels = tuple(all_degradations(config.images, degradations))
    agent = make_agent(
        config.agent, toolbox=toolbox, max_tools=config.max_tools, seed=config.seed, labels=labels
    )
    validate = Validation(
        config.val,
        toolbox,
        config.reward,
        count=config.val_count,
        canvas=config.canvas,
        max_tools=config.max_tools,
        degradations=degradations,
    )
    update = ExecutionUpdate(toolbox, config.update_config())
    state = load_checkpoint(folder / "checkpoint.pt", device)
    epochs = state["update"]["steps"] // config.steps_per_epoch if state else 0
    progress = describe_progress(folder, epochs, config.epochs, "epochs")
    with ExitStack() as stack:
        if processes.is_main_process:
            stack.enter_context(claim_run_dir(folder, config.settings() | inputs, mutable=("epochs",)))
            if progress is not None:
                print(progress)
        processes.wait_for_everyone()
        return run_epochs(config, processes, toolbox, agent, validate, update, state)


def run_epochs(
    config: CotrainingConfig,
    processes: PartialState,
    toolbox: Toolbox,
    agent: Agent | Search,
    validate: Validation,
    update: ExecutionUpdate,
    state: Mapping[str, Any] | None,
) -> ValidationResult:
    """Trains tools in the folder of their run; returns the validation of the best ones.

    Args:
        config: The settings.
        processes: The processes that train together.
        toolbox: The tools.
        agent: The agent under whose plans they are trained.
        validate: The validation set.
        update: The execution update of the tools.
        state: The checkpoint to resume from; None starts with the first epoch.
    """
    folder, is_main = config.out, processes.is_main_process
    scorer = PlanScorer(toolbox, config.reward, cache=PrefixCache())
    with processes.main_process_first():  # The main process writes the enlarged photographs.
        sampler = TrainingExampleSampler(config, toolbox)

    # The state of the run, from its checkpoint if there is one.
    best_reward = -np.inf
    if state is not None:
        load_checkpoint_state(toolbox, update, state)
        best_reward = state["best"]
    writer = SummaryWriter(str(folder), purge_step=update.steps + 1) if is_main else None
    if writer is not None and update.steps == 0:
        log_validation(writer, validate(agent), 0)

    rank_slice = slice(processes.process_index, None, processes.num_processes)
    steps = range(update.steps, config.epochs * config.steps_per_epoch)
    batches = prefetch(lambda step: sampler.draw(step)[rank_slice], steps, config.workers)
    progress_bar = track(steps, description="tools", disable=not (is_main and steps))
    for step, batch in zip(progress_bar, batches, strict=True):
        # Plans of the agent, and one step of all tools in them.
        plans = fill_in_plans(batch, agent, scorer, config.max_tools)
        lr = update.lr
        scalars = update.step([example.sample for example in batch], plans)

        # Log.
        global_step = step + 1
        if writer is not None:
            scalars |= {"lr": lr, "plan_length": float(np.mean([len(plan) for plan in plans]))}
            for name, value in scalars.items():
                writer.add_scalar(f"tools/{name}", value, global_step)

        # Validate and save at the end of each epoch.
        if global_step % config.steps_per_epoch == 0:
            result = validate(agent)  # In every process, so that none waits until a time limit.
            improved = result.reward > best_reward
            best_reward = max(best_reward, result.reward)
            if writer is not None:
                log_validation(writer, result, global_step)
                epoch = global_step // config.steps_per_epoch
                print(f"epoch {epoch}/{config.epochs}: {format_validation(result)}", flush=True)
                if improved:
                    save_tools(toolbox, folder / "toolbox", config, result)
                save_checkpoint(folder / "checkpoint.pt", checkpoint_state(toolbox, update, best_reward))
            processes.wait_for_everyone()
    if writer is not None:
        writer.close()
    toolbox.load_weights(folder / "toolbox", config.trust_code)
    return validate(agent)


def checkpoint_state(toolbox: Toolbox, update: ExecutionUpdate, best_reward: float) -> dict[str, Any]:
    """Returns what is needed to resume a run exactly."""
    tools = {tool.name: tool.module.state_dict() for tool in toolbox if tool.module is not None}
    return {"tools": tools, "update": update.state_dict(), "best": float(best_reward)}


def load_checkpoint_state(toolbox: Toolbox, update: ExecutionUpdate, state: Mapping[str, Any]) -> None:
    """Loads what :func:`checkpoint_state` returned into the tools and their optimizers."""
    for name, weights in state["tools"].items():
        module = toolbox[name].module
        assert module is not None
        module.load_state_dict(weights)
    toolbox.invalidate_fingerprint()
    update.load_state_dict(state["update"])


def save_tools(toolbox: Toolbox, folder: Path, config: CotrainingConfig, result: ValidationResult) -> None:
    """Writes the tools; the manifest says how each was co-trained, and how before that."""
    metadata = {**config.settings(), "val_reward": round(result.reward, 4), "val_metrics": result.metrics}

    def with_metadata(tool: Tool) -> Tool:
        is_trained = not config.trainable_tools or tool.name in config.trainable_tools
        if tool.net is None or not tool.parameters or not is_trained:
            return tool
        previous = {"previous": tool.training["cotraining"]} if "cotraining" in tool.training else {}
        return replace(tool, training={**tool.training, "cotraining": metadata | previous})

    Toolbox(map(with_metadata, toolbox), toolbox.device).save(folder, torch.float16)


if __name__ == "__main__":
    run_program(CotrainingConfig, train)
