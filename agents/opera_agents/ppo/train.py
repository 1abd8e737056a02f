"""Trains the stepwise agent by PPO: it chooses one tool at a time and observes each result.

Example:
    python -m opera_agents.ppo.train --images bsds500/train --val bsds500/val --out runs/ppo

The run may be interrupted at any time: the same command resumes from the last checkpoint and ends exactly
as an uninterrupted run. Scalars and images for TensorBoard are in the same folder. The run ends with
``agent.safetensors`` and ``agent.json``; ``--agents ppo:runs/ppo`` and
:func:`opera_agents.ppo.agent.make_ppo` load them.

Source: PPO as in Stable-Baselines3 (MaskablePPO). With ``--reward label_free`` the task is that of
    SimpleCall: a stepwise agent that is rewarded by gains of no-reference quality alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.progress import track
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.folders import (
    all_degradations,
    check_validation,
    load_custom_degradations,
)
from opera_agents.common.photographs import check_photographs, training_source
from opera_agents.common.runs import load_encoder, set_threads
from opera_agents.common.seeds import SeedStage, make_seed
from opera_agents.common.validation import Validation, ValidationResult
from opera_agents.planner.plan_chooser import load_chooser
from opera_agents.ppo import checkpoint
from opera_agents.ppo.agent import PredictAgent
from opera_agents.ppo.checkpoint import Progress
from opera_agents.ppo.config import PPOConfig
from opera_agents.ppo.diagnostics import log_rollout
from opera_agents.ppo.features import StepwiseFeaturesExtractor, policy_kwargs
from opera_agents.ppo.saved import load_agent, save_agent
from opera_agents.ppo.stepwise_run import (
    make_card,
    make_source,
    make_validation,
    make_vec_env,
    validate_agents,
    validation_scalars,
)
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_agents.ppo.warm_start import DrawPlans, draw_plausible_plans, run_warm_start
from opera_env.cli.program import run_program
from opera_env.degradations import load_degradations
from opera_env.execution import Executor
from opera_env.runs import claim_run_dir, describe_progress
from opera_env.schedules import linear_decay
from opera_env.tools import Toolbox

CHECKPOINT = "checkpoint.pt"
"""File name of a run's checkpoint."""


def train(config: PPOConfig) -> ValidationResult | None:
    """Trains an agent.

    Returns:
        The last validation; None without a folder for validation.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more steps, or with damaged files.
        AgentError: If the initial weights are those of another policy.
        ToolboxMismatchError: If they, or the planner, were trained for another toolbox.
        MissingWeightsError: If the planner's run has no value network.
    """
    # Set-up. Nothing is written before all that was named has been found.
    set_threads(config.threads)
    toolbox = Toolbox.load(config.toolbox, config.device, config.trust_code)
    degradations = load_custom_degradations(config.images, config.degradations)
    if config.val is not None:
        check_validation(config.images, config.val)
    check_photographs(config.images, [config.canvas])
    photographs = training_source(config.images, config.canvas, degradations=degradations)
    model = make_model(config, make_vec_env(config, toolbox, photographs))
    load_initial_weights(model, config, toolbox)
    draw_plans = make_plans(config, toolbox)
    validate = make_validation(config, toolbox)
    path, settings = config.out / CHECKPOINT, config.settings(toolbox)
    state, progress = checkpoint.read(path, config.device) or (None, None)
    steps = config.num_envs * config.n_steps
    done = 0 if progress is None else progress.rollouts * steps
    description = describe_progress(config.out, done, config.rollouts * steps, "total-timesteps")
    with claim_run_dir(config.out, settings, mutable=("total_timesteps",)):
        if state is not None:
            checkpoint.restore(path, state, model)
        if description is not None:
            print(description)
        return run_rollouts(config, settings, toolbox, model, draw_plans, progress, validate)


def load_initial_weights(model: MaskablePPO, config: PPOConfig, toolbox: Toolbox) -> None:
    """Loads the weights that the settings name into a policy, and freezes the encoder on request."""
    extractor = model.policy.get_submodule("features_extractor")
    assert isinstance(extractor, StepwiseFeaturesExtractor)
    if config.encoder is not None:
        # After the policy was made, because Stable-Baselines3 initialises all of its weights.
        load_encoder(extractor.encoder, config.encoder)
    if config.initial_weights is not None:
        policy, card = load_agent(config.initial_weights)
        card.check(toolbox, config.max_tools, config.observe_original)
        model.policy.load_state_dict(policy.state_dict())
    extractor.encoder.requires_grad_(not config.freeze_encoder)


def run_rollouts(
    config: PPOConfig,
    settings: Mapping[str, Any],
    toolbox: Toolbox,
    model: MaskablePPO,
    draw_plans: DrawPlans,
    progress: Progress | None,
    validate: Validation | None,
) -> ValidationResult | None:
    """Trains a model in the folder of its run; returns its last validation.

    Args:
        config: The settings.
        settings: The settings as the run's folder has them, for the card.
        toolbox: The tools.
        model: The model with its initial weights, or those of its checkpoint.
        draw_plans: Returns the plans that the warm start imitates.
        progress: The progress in the checkpoint; None starts with the warm start.
        validate: The validation set; None leaves it out.
    """
    source = make_source(config)
    path = config.out / CHECKPOINT
    agent = PredictAgent(model.policy, toolbox, mask_upscale=config.mask_upscale)
    sampling_agent = PredictAgent(model.policy, toolbox, mask_upscale=config.mask_upscale, seed=0)
    if progress is None:
        progress = Progress()
        if config.warm_start_steps and config.initial_weights is None:
            steps, batch_size = config.warm_start_steps, config.warm_start_batch_size
            budget = run_warm_start(
                model, agent, Executor(toolbox), source, draw_plans, steps, batch_size, config.seed
            )
            progress = Progress(budget=budget)
            checkpoint.save(path, model, progress)

    writer = SummaryWriter(str(config.out), purge_step=model.num_timesteps + 1)
    result: ValidationResult | None = None
    if validate is not None and progress.rollouts in (0, config.rollouts):
        result = validate_agents(validate, agent, sampling_agent, writer, model.num_timesteps)
    while progress.rollouts < config.rollouts:
        # Each segment between two checkpoints starts with fresh environments, seeds and caches (a cache
        # decides which plans share a batch), so that a resumed run equals an uninterrupted one.
        envs = make_vec_env(config, toolbox, source)
        model.set_env(envs)
        model.set_random_seed(make_seed(config.seed, SeedStage.PPO_ROLLOUT, progress.rollouts))
        # model.learn() would decay the learning rate to its end in every segment.
        _, callback = model._setup_learn(config.total_timesteps, reset_num_timesteps=False)
        previous_budget, seconds, scorer = progress.budget, 0.0, envs.envs.rules.scorer
        segment_end = min(progress.rollouts + config.save_every, config.rollouts)
        for rollout in track(
            range(progress.rollouts, segment_end), description=f"PPO, to rollout {segment_end}"
        ):
            assert model.env is not None
            assert model.ep_info_buffer is not None
            start_time = time.perf_counter()
            model.ep_info_buffer.clear()
            model.collect_rollouts(model.env, callback, model.rollout_buffer, config.n_steps)
            rollout_time = time.perf_counter()
            model._update_current_progress_remaining(rollout, config.rollouts)
            model.train()
            update_time = time.perf_counter()

            seconds += update_time - start_time
            budget = previous_budget.plus(scorer.images_scored, scorer.tools_run, seconds)
            progress = Progress(rollout + 1, budget)
            scalars = {
                "time/rollout": rollout_time - start_time,
                "time/update": update_time - rollout_time,
                **{f"budget/{name}": value for name, value in asdict(budget).items()},
            }
            log_rollout(writer, model, scalars, config.tool_cost)
            is_validation_due = (
                progress.rollouts % config.val_every == 0 or progress.rollouts == config.rollouts
            )
            if validate is not None and is_validation_due:
                result = validate_agents(validate, agent, sampling_agent, writer, model.num_timesteps)
        checkpoint.save(path, model, progress)

    writer.close()
    training = {**settings, **asdict(progress.budget), **validation_scalars(result)}
    save_agent(model.policy, make_card(config, training, toolbox), config.out)
    return result


def make_plans(config: PPOConfig, toolbox: Toolbox) -> DrawPlans:
    """Returns the function that returns the plans of the warm start."""
    labels = tuple(all_degradations(config.images, load_degradations(config.degradations)))
    if config.planner is None:
        return draw_plausible_plans(toolbox, labels, config.max_tools)
    return load_chooser(config.planner, toolbox, labels, config.max_tools, config.tool_cost)


def make_model(config: PPOConfig, envs: OperaVecEnv) -> MaskablePPO:
    """Returns an untrained model, whose logger only stores values."""
    model = MaskablePPO(
        "MultiInputPolicy",
        envs,
        learning_rate=lambda remaining: config.lr * linear_decay(1 - remaining, 1, final=0.1),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=1.0,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        stats_window_size=config.n_steps * config.num_envs,  # all episodes of a rollout
        policy_kwargs=policy_kwargs(config.observe_original),
        seed=config.seed,
        device=config.device,
    )
    model.set_logger(Logger(None, []))
    return model


if __name__ == "__main__":
    run_program(PPOConfig, train)
