"""What the trainers of stepwise agents share: environments, validation, and the card of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.photographs import training_source
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.ppo.agent import PredictAgent
from opera_agents.ppo.saved import AgentCard
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.data import Source, SyntheticSource
from opera_env.degradations import load_degradations
from opera_env.envs.vector import StepwiseVectorEnv
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox


class StepwiseRunConfig(Protocol):
    """The settings of a trainer of stepwise agents that this module reads; see
    :class:`opera_agents.ppo.config.PPOConfig`.
    """

    @property
    def images(self) -> tuple[Path, ...]: ...
    @property
    def out(self) -> Path: ...
    @property
    def val(self) -> Path | None: ...
    @property
    def val_count(self) -> int: ...
    @property
    def val_reward(self) -> str | None: ...
    @property
    def regret(self) -> bool: ...
    @property
    def num_envs(self) -> int: ...
    @property
    def reward(self) -> str: ...
    @property
    def tool_cost(self) -> float: ...
    @property
    def max_tools(self) -> int: ...
    @property
    def mask_upscale(self) -> bool: ...
    @property
    def observe_original(self) -> bool: ...
    @property
    def canvas(self) -> int: ...
    @property
    def obs_size(self) -> int: ...
    @property
    def clean_weight(self) -> float: ...
    @property
    def benchmark_fraction(self) -> float: ...
    @property
    def enlarged(self) -> bool: ...
    @property
    def degradations(self) -> str | None: ...


def make_source(config: StepwiseRunConfig) -> SyntheticSource:
    """Returns the training photographs; enlarged copies of some are written to the folder of the run."""
    return training_source(
        config.images,
        config.canvas,
        enlarged_dir=config.out / "enlarged" if config.enlarged else None,
        clean_weight=config.clean_weight,
        degradations=load_degradations(config.degradations),
        benchmark_fraction=config.benchmark_fraction,
    )


def make_vec_env(config: StepwiseRunConfig, toolbox: Toolbox, source: Source) -> OperaVecEnv:
    """Returns fresh environments that share a toolbox and photographs."""
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
    return OperaVecEnv(envs, exclude_keys=() if config.observe_original else ("original",))


def make_validation(config: StepwiseRunConfig, toolbox: Toolbox) -> Validation | None:
    """Returns the validation set; its scorer does not count towards the budget of the training."""
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
        degradations=load_degradations(config.degradations),
    )


def validate_agents(
    validate: Validation,
    agent: PredictAgent,
    sampling_agent: PredictAgent | None,
    writer: SummaryWriter,
    step: int,
) -> ValidationResult:
    """Validates the most probable and the sampled plans; writes and prints the result."""
    # Cached results decide which plans share a batch, and so the last digits: without them, a validation
    # is the same in a resumed run.
    validate.scorer.clear_caches()
    result = validate(agent, sampling_agent)
    log_validation(writer, result, step)
    print(f"step {step}: {format_validation(result)}", flush=True)
    return result


def validation_scalars(result: ValidationResult | None) -> dict[str, float]:
    """Returns the figures of the last validation for the card; none without a validation."""
    if result is None:
        return {}
    scalars = {"val_reward": result.reward, "val_length": result.length}
    return scalars | ({} if result.regret is None else {"val_regret": result.regret})


def make_card(config: StepwiseRunConfig, training: dict[str, Any], toolbox: Toolbox) -> AgentCard:
    """Returns the card of a trained policy."""
    return AgentCard(
        signature=toolbox.signature,
        tools=toolbox.names,
        max_tools=config.max_tools,
        obs_size=config.obs_size,
        observe_original=config.observe_original,
        mask_upscale=config.mask_upscale,
        reward=config.reward,
        training=training,
    )
