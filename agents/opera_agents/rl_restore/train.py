"""Trains the agent ``rl_restore`` by deep Q-learning: it chooses one tool at a time and sees each result.

Example:
    python -m opera_agents.rl_restore.train --images bsds500/train --val bsds500/val --out runs/rl_restore

The run may be interrupted at any time: the same command resumes from the last checkpoint and ends exactly
as an uninterrupted run. Scalars and images for TensorBoard are in the same folder. The run ends with
``agent.safetensors`` and ``agent.json``, which ``--agents rl_restore:runs/rl_restore`` loads.

Source: Yu et al., Crafting a Toolchain for Image Restoration by Deep Reinforcement Learning, CVPR 2018;
    DQN as in Stable-Baselines3.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.progress import track
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.folders import check_validation, load_custom_degradations
from opera_agents.common.photographs import check_photographs, training_source
from opera_agents.common.runs import load_encoder, set_threads
from opera_agents.common.seeds import SeedStage, make_seed
from opera_agents.common.validation import Validation, ValidationResult
from opera_agents.ppo.agent import PredictAgent
from opera_agents.ppo.checkpoint import Progress, read
from opera_agents.ppo.diagnostics import episode_scalars
from opera_agents.ppo.saved import save_agent
from opera_agents.ppo.stepwise_run import (
    make_card,
    make_source,
    make_validation,
    make_vec_env,
    validate_agents,
    validation_scalars,
)
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_agents.rl_restore import checkpoint
from opera_agents.rl_restore.config import RLRestoreConfig
from opera_agents.rl_restore.features import RecurrentFeaturesExtractor, policy_kwargs
from opera_env.cli.program import run_program
from opera_env.runs import claim_run_dir, describe_progress
from opera_env.schedules import linear_decay
from opera_env.tools import Toolbox

CHECKPOINT = "checkpoint.pt"
"""File name of a run's checkpoint."""


def train(config: RLRestoreConfig) -> ValidationResult | None:
    """Trains an agent.

    Returns:
        The last validation; None without a folder for validation.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more steps, or with damaged files.
        AgentError: If the encoder is another one.
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
    for name in ("q_net", "q_net_target"):
        extractor = model.policy.get_submodule(f"{name}.features_extractor")
        assert isinstance(extractor, RecurrentFeaturesExtractor)
        if config.encoder is not None:
            load_encoder(extractor.encoder, config.encoder)
        extractor.encoder.requires_grad_(not config.freeze_encoder)
    validate = make_validation(config, toolbox)
    path, settings = config.out / CHECKPOINT, config.settings(toolbox)
    state, progress = read(path, config.device) or (None, Progress())
    steps = config.num_envs * config.n_steps
    description = describe_progress(
        config.out, progress.rollouts * steps, config.rollouts * steps, "total-timesteps"
    )
    with claim_run_dir(config.out, settings, mutable=("total_timesteps",)):
        if state is not None:
            checkpoint.restore(path, state, model)
        if description is not None:
            print(description)
        return run_rollouts(config, settings, toolbox, model, progress, validate)


def run_rollouts(
    config: RLRestoreConfig,
    settings: Mapping[str, Any],
    toolbox: Toolbox,
    model: DQN,
    progress: Progress,
    validate: Validation | None,
) -> ValidationResult | None:
    """Trains a model in the folder of its run; returns its last validation.

    Args:
        config: The settings.
        settings: The settings as the run's folder has them, for the card.
        toolbox: The tools.
        model: The model with its initial weights, or the state of its checkpoint.
        progress: The progress in the checkpoint.
        validate: The validation set; None leaves it out.
    """
    source = make_source(config)
    path, agent = config.out / CHECKPOINT, PredictAgent(model.policy, toolbox, mask_upscale=False)
    writer = SummaryWriter(str(config.out), purge_step=model.num_timesteps + 1)
    result: ValidationResult | None = None
    if validate is not None and progress.rollouts in (0, config.rollouts):
        result = validate_agents(validate, agent, None, writer, model.num_timesteps)
    while progress.rollouts < config.rollouts:
        # Each segment between two checkpoints starts with fresh environments, seeds and caches, so that a
        # resumed run equals an uninterrupted one. Only the replay buffer goes on.
        envs = make_vec_env(config, toolbox, source)
        model.set_env(envs)
        model.set_random_seed(make_seed(config.seed, SeedStage.RL_RESTORE_ROLLOUT, progress.rollouts))
        _, callback = model._setup_learn(config.total_timesteps, reset_num_timesteps=False)
        model._total_timesteps = config.rollouts * config.num_envs * config.n_steps
        model.exploration_rate = model.exploration_schedule(
            1 - model.num_timesteps / model._total_timesteps
        )
        previous_budget, seconds, scorer = progress.budget, 0.0, envs.envs.rules.scorer
        segment_end = min(progress.rollouts + config.save_every, config.rollouts)
        description = f"Q-learning, to rollout {segment_end}"
        for rollout in track(range(progress.rollouts, segment_end), description=description):
            start_time = time.perf_counter()
            _collect_and_update(config, model, callback)
            seconds += time.perf_counter() - start_time
            budget = previous_budget.plus(scorer.images_scored, scorer.tools_run, seconds)
            progress = Progress(rollout + 1, budget)
            _log(writer, config, model, progress)
            is_validation_due = (
                progress.rollouts % config.val_every == 0 or progress.rollouts == config.rollouts
            )
            if validate is not None and is_validation_due:
                result = validate_agents(validate, agent, None, writer, model.num_timesteps)
        checkpoint.save(path, model, progress)

    writer.close()
    training = {**settings, **asdict(progress.budget), **validation_scalars(result)}
    save_agent(model.policy, make_card(config, training, toolbox), config.out)
    return result


def _collect_and_update(config: RLRestoreConfig, model: DQN, callback: Any) -> None:
    """Runs a rollout into the replay buffer, and updates the network."""
    assert model.env is not None and model.replay_buffer is not None and model.ep_info_buffer is not None
    model.ep_info_buffer.clear()
    model.collect_rollouts(
        model.env,
        callback,
        TrainFreq(config.n_steps, TrainFrequencyUnit.STEP),
        model.replay_buffer,
        learning_starts=config.learning_starts,
    )
    if model.num_timesteps > config.learning_starts:
        model.train(config.gradient_steps, config.batch_size)


def _log(writer: SummaryWriter, config: RLRestoreConfig, model: DQN, progress: Progress) -> None:
    """Writes the statistics of a rollout and of its update."""
    scalars: dict[str, Any] = dict(model.logger.name_to_value)
    model.logger.dump(model.num_timesteps)  # clears the stored values
    scalars.pop("train/n_updates", None)
    scalars |= episode_scalars(list(model.ep_info_buffer or ()), config.tool_cost)
    scalars |= {f"budget/{name}": value for name, value in asdict(progress.budget).items()}
    for name, value in scalars.items():
        writer.add_scalar(name, value, model.num_timesteps)


def make_model(config: RLRestoreConfig, envs: OperaVecEnv) -> DQN:
    """Returns an untrained model, whose logger only stores values."""
    model = DQN(
        "MultiInputPolicy",
        envs,
        learning_rate=lambda remaining: config.lr * linear_decay(1 - remaining, 1, final=0.1),
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        gamma=1.0,  # the rewards of an episode add up to its gain of R_q
        target_update_interval=config.target_update_interval,
        exploration_fraction=config.exploration_fraction,
        exploration_final_eps=config.final_epsilon,
        stats_window_size=config.n_steps * config.num_envs,  # all episodes of a rollout
        policy_kwargs=policy_kwargs(),
        seed=config.seed,
        device=config.device,
    )
    model.set_logger(Logger(None, []))
    return model


if __name__ == "__main__":
    run_program(RLRestoreConfig, train)
