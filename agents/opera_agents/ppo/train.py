"""Trains the stepwise agent by PPO: a tool at a time, looking again after each.

Example:
    python -m opera_agents.ppo.train --images bsds500/train --val bsds500/val --out runs/ppo

Interrupt it at any time: the same command goes on from the last checkpoint and ends where it would have
ended, bit by bit. Curves and pictures are for tensorboard, in the same folder. It ends with
``agent.safetensors`` and ``agent.json``, which :func:`opera_agents.ppo.agent.make_ppo` loads.

Source: PPO as in Stable-Baselines3 (MaskablePPO). With ``--reward label_free`` the game is SimpleCall's:
    stepwise, rewarded by gains in no-reference quality alone.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import tyro
from rich.progress import track
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.photographs import training_source
from opera_agents.common.runs import claim_run_dir, load_encoder, set_threads
from opera_agents.common.seeds import SeedStage, make_seed
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.ppo.agent import PredictAgent
from opera_agents.ppo.checkpoint import Progress, restore, save
from opera_agents.ppo.config import PPOConfig
from opera_agents.ppo.features import StepwiseFeaturesExtractor, policy_kwargs
from opera_agents.ppo.saved import AgentCard, save_agent
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_agents.ppo.warm_start import imitate
from opera_env.data import Source
from opera_env.envs.vector import StepwiseVectorEnv
from opera_env.errors import AgentError
from opera_env.execution import Executor, PrefixCache
from opera_env.schedules import linear_decay
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox


def train(config: PPOConfig) -> ValidationResult | None:
    """Trains an agent; returns its last validation, if there is a folder to validate on.

    Raises:
        AgentError: If the folder holds another run, or an encoder is to be frozen that was never trained.
    """
    if config.freeze and config.encoder is None:
        raise AgentError(
            "--freeze leaves the encoder as it starts: give a trained one with --encoder FILE."
        )
    folder = config.out
    set_threads(config.threads)
    toolbox = Toolbox.load(config.toolbox, config.device)
    checkpoint = folder / "checkpoint.pt"
    claim_run_dir(folder, config.settings() | {"fingerprint": toolbox.fingerprint})
    enlarged = folder / "enlarged" if config.enlarged else None
    source = training_source(config.images, config.canvas, enlarged, config.clean)
    validate = make_validation(config, toolbox)
    model = make_model(config, make_vec_env(config, toolbox, source))
    agent = PredictAgent(model.policy, toolbox, mask_upscale=config.mask_upscale)
    progress = Progress()
    if checkpoint.exists():
        progress = restore(checkpoint, model)
        print(f"resuming from rollout {progress.rollouts} of {config.rollouts}")
    features = model.policy.get_submodule("features_extractor")
    assert isinstance(features, StepwiseFeaturesExtractor)
    if not checkpoint.exists() and config.encoder is not None:
        load_encoder(features.encoder, config.encoder)  # after the policy was made, which draws it anew
    features.encoder.requires_grad_(not config.freeze)
    if not checkpoint.exists() and config.warm_steps:
        steps, batch = config.warm_steps, config.warm_batch
        progress = Progress(
            budget=imitate(model, agent, Executor(toolbox), source, steps, batch, config.seed)
        )
        save(checkpoint, model, progress)

    writer = SummaryWriter(str(folder), purge_step=model.num_timesteps + 1)
    watched: ValidationResult | None = None
    if validate is not None and progress.rollouts in (0, config.rollouts):
        watched = _watch(validate(agent), writer, model.num_timesteps)
    while progress.rollouts < config.rollouts:
        # Whatever chance decides in a segment begins anew: generators, games, and with the world its
        # caches, which decide what shares a batch. Going on is then the same as never having stopped.
        world = make_vec_env(config, toolbox, source)
        model.set_env(world)
        model.set_random_seed(make_seed(config.seed, SeedStage.PPO_ROLLOUT, progress.rollouts))
        # As in model.learn(), which would let the learning rate fall to its end in every segment.
        _, callback = model._setup_learn(config.steps, reset_num_timesteps=False)
        resumed_budget, seconds, scorer = progress.budget, 0.0, world.envs.rules.scorer
        last = min(progress.rollouts + config.save_every, config.rollouts)
        for rollout in track(range(progress.rollouts, last), description=f"PPO, to rollout {last}"):
            assert model.env is not None
            assert model.ep_info_buffer is not None
            begin = time.perf_counter()
            model.ep_info_buffer.clear()
            model.collect_rollouts(model.env, callback, model.rollout_buffer, config.n_steps)
            collected = time.perf_counter()
            model._update_current_progress_remaining(rollout, config.rollouts)
            model.train()
            updated = time.perf_counter()

            seconds += updated - begin
            budget = resumed_budget.plus(scorer.images_scored, scorer.tools_run, seconds)
            progress = Progress(rollout + 1, budget)
            scalars = {
                "time/rollout": collected - begin,
                "time/update": updated - collected,
                **{f"budget/{name}": value for name, value in asdict(progress.budget).items()},
            }
            _log(writer, model, scalars, toolbox)
            due = progress.rollouts % config.val_every == 0 or progress.rollouts == config.rollouts
            if validate is not None and due:
                watched = _watch(validate(agent), writer, model.num_timesteps)
        save(checkpoint, model, progress)

    writer.close()
    about = {
        **config.settings(),
        **asdict(progress.budget),
        **_figures(watched),
        "fingerprint": toolbox.fingerprint,
    }
    card = AgentCard(
        toolbox.signature,
        toolbox.names,
        config.max_tools,
        config.obs_size,
        config.original,
        config.mask_upscale,
        config.reward,
        about,
    )
    save_agent(model.policy, card, folder)
    return watched


def make_vec_env(config: PPOConfig, toolbox: Toolbox, source: Source) -> OperaVecEnv:
    """Returns fresh games over shared tools and photographs."""
    envs = StepwiseVectorEnv(
        config.num_envs,
        toolbox=toolbox,
        reward=config.reward,
        source=source,
        max_tools=config.max_tools,
        obs_size=config.obs_size,
        tool_cost=config.tool_cost,
        mask_upscale=config.mask_upscale,
    )
    return OperaVecEnv(envs, exclude_keys=() if config.original else ("original",))


def make_model(config: PPOConfig, world: OperaVecEnv) -> MaskablePPO:
    """Returns an untrained model whose logger only collects."""
    model = MaskablePPO(
        "MultiInputPolicy",
        world,
        learning_rate=lambda left: config.lr * linear_decay(1 - left, 1, final=0.1),
        n_steps=config.n_steps,
        batch_size=config.batch,
        n_epochs=config.epochs,
        gamma=1.0,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy,
        stats_window_size=config.n_steps * config.num_envs,  # all episodes of a rollout
        policy_kwargs=policy_kwargs(config.original),
        seed=config.seed,
        device=config.device,
    )
    model.set_logger(Logger(None, []))
    return model


def make_validation(config: PPOConfig, toolbox: Toolbox) -> Validation | None:
    """Returns the validation set, with a scorer of its own that does not count to the budget."""
    if config.val is None:
        return None
    reward = config.val_reward or config.reward
    return Validation(
        config.val,
        toolbox,
        reward,
        config.val_count,
        config.canvas,
        config.max_tools,
        config.tool_cost,
        config.out.parent if config.regret else None,
        PlanScorer(toolbox, reward, cache=PrefixCache()),  # each step runs one tool, not the whole plan
    )


def _log(writer: SummaryWriter, model: MaskablePPO, scalars: dict[str, float], toolbox: Toolbox) -> None:
    """Writes what happened in a rollout and the update after it."""
    step = model.num_timesteps
    episodes = list(model.ep_info_buffer or ())
    actions = model.rollout_buffer.actions.astype(np.int64).ravel()
    learned: dict[str, Any] = dict(model.logger.name_to_value)
    model.logger.dump(step)  # forgets them
    learned["train/entropy"] = -learned.pop("train/entropy_loss")
    del learned["train/n_updates"]
    if episodes:
        learned["rollout/return"] = float(np.mean([episode["r"] for episode in episodes]))
        learned["rollout/length"] = float(np.mean([episode["l"] for episode in episodes]))
    for name, value in (learned | scalars).items():
        writer.add_scalar(name, value, step)
    writer.add_histogram("rollout/actions", actions, step, bins=np.arange(len(toolbox) + 2) - 0.5)  # pyright: ignore[reportArgumentType]


def _watch(watched: ValidationResult, writer: SummaryWriter, step: int) -> ValidationResult:
    """Writes and prints how validation went."""
    log_validation(writer, watched, step)
    print(f"step {step}: {format_validation(watched)}", flush=True)
    return watched


def _figures(watched: ValidationResult | None) -> dict[str, float]:
    if watched is None:
        return {}
    figures = {"val_reward": watched.reward, "val_length": watched.length}
    return figures | ({} if watched.regret is None else {"val_regret": watched.regret})


if __name__ == "__main__":
    train(tyro.cli(PPOConfig))
