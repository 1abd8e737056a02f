"""Trains the tools under an agent's plans, until they cooperate.

Example:
    python -m opera_agents.cotraining.train --images bsds500/train --val bsds500/val --out runs/tools
    python -m opera_agents.cotraining.train ... --only brighten.gamma_correction --rehearsal .8
    accelerate launch --num_processes 2 -m opera_agents.cotraining.train --images ... --val ...

Interrupt it at any time: the same command goes on from the last epoch and ends where it would have ended,
if the agent's plans are not drawn at random.
Curves and pictures are for tensorboard, in the same folder; the best tools are in its folder ``toolbox``.

Source: section 4.3 and appendix D of the paper. Departures: exercises among the agent's plans, on clean
    photographs and on each tool's own damage; a learning rate for small networks, which decays.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from accelerate import PartialState
from rich.progress import track
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import prefetch
from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.runs import claim_run_dir, set_threads
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.cotraining.training_examples import TrainingExampleSampler, fill_in_plans
from opera_env.agents import make_agent
from opera_env.cotraining import ExecutionUpdate, add_tone_curves
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Tool, Toolbox


def train(config: CotrainingConfig) -> ValidationResult:
    """Trains tools; returns the validation of the best.

    Raises:
        AgentError: If the folder holds another run.
        ExecutionUpdateError: If a loss is not finite; names the plan. The last good tools are kept.
    """
    processes = PartialState(cpu=config.device == "cpu")
    first = processes.is_main_process
    folder, device = config.out, torch.device(config.device)
    if device.type == "cuda":
        device = processes.device or device
    set_threads(config.threads)
    if first:
        claim_run_dir(folder, config.settings())
    processes.wait_for_everyone()

    torch.manual_seed(config.seed)  # of the curves' weights; everything else is drawn from numpy
    toolbox = Toolbox.load(config.toolbox, device)
    if config.tone:
        toolbox = add_tone_curves(toolbox)
    with processes.main_process_first():  # it writes the enlarged photographs
        lessons = TrainingExampleSampler(config, toolbox)
    agent = make_agent(config.agent, toolbox=toolbox, max_tools=config.max_tools, seed=config.seed)
    scorer = PlanScorer(toolbox, config.reward, cache=PrefixCache())
    validate = Validation(
        config.val, toolbox, config.reward, config.val_count, config.canvas, config.max_tools
    )
    update = ExecutionUpdate(toolbox, config.execution())
    checkpoint, best = folder / "checkpoint.pt", -np.inf
    if (state := load_checkpoint(checkpoint, device)) is not None:
        restore(toolbox, update, state)
        best = state["best"]
        print(f"resuming from epoch {update.epoch} of {config.epochs}")

    writer = SummaryWriter(str(folder), purge_step=update.steps + 1) if first else None
    if writer is not None and update.steps == 0:
        log_validation(writer, validate(agent), 0)
    mine = slice(processes.process_index, None, processes.num_processes)
    steps = range(update.steps, config.epochs * config.steps_per_epoch)
    batches = prefetch(lambda step: lessons.draw(step)[mine], steps, config.workers)
    for step, batch in zip(track(steps, description="tools", disable=not first), batches, strict=True):
        plans = fill_in_plans(batch, agent, scorer, config.max_tools)
        figures = update.step([lesson.sample for lesson in batch], plans)

        done = step + 1
        if writer is not None:
            figures |= {"lr": update.lr, "length": float(np.mean([len(plan) for plan in plans]))}
            for name, value in figures.items():
                writer.add_scalar(f"tools/{name}", value, done)
        if done % config.steps_per_epoch == 0:
            watched = validate(agent)  # by every process, so that none waits for long
            better = watched.reward > best
            best = max(best, watched.reward)
            if writer is not None:
                log_validation(writer, watched, done)
                print(
                    f"epoch {done // config.steps_per_epoch}/{config.epochs}: {format_validation(watched)}",
                    flush=True,
                )
                if better:
                    save_tools(toolbox, folder / "toolbox", config, watched)
                save_checkpoint(checkpoint, saved(toolbox, update, best))
            processes.wait_for_everyone()
    if writer is not None:
        writer.close()
    toolbox.load_weights(folder / "toolbox")
    return validate(agent)


def saved(toolbox: Toolbox, update: ExecutionUpdate, best: float) -> dict[str, Any]:
    """Returns what a run needs to go on."""
    tools = {tool.name: tool.module.state_dict() for tool in toolbox if tool.module is not None}
    return {"tools": tools, "update": update.state_dict(), "best": float(best)}


def restore(toolbox: Toolbox, update: ExecutionUpdate, state: dict[str, Any]) -> None:
    """Goes on from what :func:`saved` returned."""
    for name, weights in state["tools"].items():
        module = toolbox[name].module
        assert module is not None
        module.load_state_dict(weights)
    toolbox.invalidate_fingerprint()
    update.load_state_dict(state["update"])


def save_tools(toolbox: Toolbox, folder: Path, config: CotrainingConfig, watched: ValidationResult) -> None:
    """Writes the tools, and into their manifest under which plans they were trained, and before that."""
    about = {**config.settings(), "val_reward": round(watched.reward, 4), "val_metrics": watched.metrics}

    def noted(tool: Tool) -> Tool:
        if tool.net is None or not tool.parameters or (config.only and tool.name not in config.only):
            return tool
        before = {"before": tool.training["cotraining"]} if "cotraining" in tool.training else {}
        return replace(tool, training={**tool.training, "cotraining": about | before})

    Toolbox(map(noted, toolbox), toolbox.device).save(folder, torch.float16)


if __name__ == "__main__":
    train(tyro.cli(CotrainingConfig))
