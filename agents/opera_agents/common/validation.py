"""Validation of agents in training on a fixed set of samples: reward, regret, metrics, example images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.folders import validation_samples
from opera_env.agents import run_agent
from opera_env.data.images import quantise, resize
from opera_env.degradations import DegradationType
from opera_env.evaluation.compare import EvaluationConfig, frozen_set
from opera_env.evaluation.scorers import CachingScorer
from opera_env.execution import PrefixCache
from opera_env.files import atomic_write
from opera_env.reward import env_reward, f1_score
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample, Search


@dataclass(frozen=True)
class ValidationResult:
    """The result of an agent on the validation set.

    Attributes:
        reward: Mean of R_q less the tool cost.
        length: Mean number of tools.
        f1: Mean F1 of the predicted degradations; None if the agent predicts none.
        regret: Mean difference to the best reward of the frozen set; None if it was not searched.
        metrics: Mean of each metric that the reward is made of.
        image_grid: A row for each of the first samples: the degraded image, the result and the reference,
            uint8 (3, H, W).
        reward_sampled: The same as ``reward`` with sampled plans instead of the most probable ones; None
            if none were sampled. The most probable plan of an untrained policy is often the empty one.
        length_sampled: Mean number of tools in the sampled plans.
    """

    reward: float
    length: float
    f1: float | None
    regret: float | None
    metrics: dict[str, float]
    image_grid: Tensor
    reward_sampled: float | None = None
    length_sampled: float | None = None


class Validation:
    """The validation set: samples with the benchmark's recipes, the same for every agent and every step.

    Args:
        folder: Folder of clean photographs, or real:FOLDER for real damage.
        toolbox: The tools.
        reward: Name of the reward preset.
        count: Number of samples.
        canvas: Side of the crops in pixels.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Subtracted from R_q for each tool.
        regret_dir: Folder in which the best rewards of the frozen set are kept. Searching them takes
            minutes; None leaves regret out.
        scorer: Scores the plans; by default a new one.
        degradations: Custom degradations. With some, the recipes are all plausible orders of up to three
            degradations instead of those of the benchmark.
    """

    def __init__(
        self,
        folder: Path,
        toolbox: Toolbox,
        reward: str,
        count: int = 32,
        canvas: int = 128,
        max_tools: int = 6,
        tool_cost: float = 0.0,
        regret_dir: Path | None = None,
        scorer: PlanScorer | None = None,
        degradations: Sequence[DegradationType] = (),
    ) -> None:
        self.samples = validation_samples(folder, canvas, count, degradations)
        self.scorer = scorer or PlanScorer(toolbox, reward)
        self.max_tools, self.tool_cost = max_tools, tool_cost
        self._regret_dir = regret_dir

    @cached_property
    def best_rewards(self) -> list[float] | None:
        """The best reward of each sample, searched at the first validation; None without regret."""
        return None if self._regret_dir is None else self._load_or_search_best(self._regret_dir)

    def __call__(self, agent: Agent | Search, sampling_agent: Agent | None = None) -> ValidationResult:
        """Runs an agent on all samples and scores its plans.

        Args:
            agent: The agent, which decides for the most probable plans.
            sampling_agent: The same policy with sampled plans, one for each sample; None leaves them out.
        """
        run = run_agent(agent, self.samples, self.scorer, self.max_tools)
        outcomes = self.scorer.score(self.samples, run.plans)
        rewards = [env_reward(outcome, self.tool_cost) for outcome in outcomes]
        f1_scores = [
            f1_score(decision.degradations, sample.degradations or frozenset())
            for decision, sample in zip(run.decisions, self.samples, strict=True)
            if decision is not None and decision.degradations is not None
        ]
        best = self.best_rewards
        return ValidationResult(
            reward=float(np.mean(rewards)),
            length=float(np.mean([len(plan) for plan in run.plans])),
            f1=float(np.mean(f1_scores)) if f1_scores else None,
            regret=None if best is None else float(np.mean(np.subtract(best, rewards))),
            metrics={
                name: float(np.mean([outcome.metrics[name] for outcome in outcomes]))
                for name in outcomes[0].metrics
            },
            image_grid=_image_grid(self.samples, [outcome.image() for outcome in outcomes]),
            **({} if sampling_agent is None else self._score_sampled(sampling_agent)),
        )

    def _score_sampled(self, agent: Agent) -> dict[str, float]:
        """Returns the mean reward and the mean length of sampled plans."""
        plans = run_agent(agent, self.samples, self.scorer, self.max_tools).plans
        outcomes = self.scorer.score(self.samples, plans, restored=False)
        return {
            "reward_sampled": float(np.mean([env_reward(outcome, self.tool_cost) for outcome in outcomes])),
            "length_sampled": float(np.mean([len(plan) for plan in plans])),
        }

    def _load_or_search_best(self, folder: Path) -> list[float]:
        """Reads the best reward of each sample from the folder, or searches and writes it."""
        toolbox, reward = self.scorer.toolbox, self.scorer.reward
        key = f"{toolbox.fingerprint} {reward} {self.max_tools} {self.tool_cost} " + " ".join(
            sample.key for sample in self.samples
        )
        path = folder / f"frozen-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        best = _read_best(path, len(self.samples))
        if best is None:
            config = EvaluationConfig(reward, self.max_tools, self.tool_cost)
            best = []
            for sample in track(self.samples, description="best plans of the validation set"):
                scorer = CachingScorer(PlanScorer(toolbox, reward, cache=PrefixCache()))
                best.append(scorer.best_reward(sample, frozen_set(sample, scorer, config), self.tool_cost))
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial:
                partial.write_text(json.dumps(best) + "\n")
        return best


def _read_best(path: Path, count: int) -> list[float] | None:
    """Reads a file of the best rewards; None if it is absent or damaged, as they can be searched again."""
    try:
        best = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(best, list) or len(best) != count:
        return None
    return best if all(isinstance(value, float) for value in best) else None


def log_validation(writer: SummaryWriter, result: ValidationResult, step: int) -> None:
    """Writes a validation to TensorBoard, under the same tags for all trainers."""
    for name in ("reward", "length", "f1", "regret", "reward_sampled", "length_sampled"):
        if (value := getattr(result, name)) is not None:
            writer.add_scalar(f"val/{name}", value, step)
    for name, value in result.metrics.items():
        writer.add_scalar(f"val/{name}", value, step)
    writer.add_image("val/input_restored_reference", result.image_grid, step)


def format_validation(result: ValidationResult) -> str:
    """Returns a validation as one line of text.

    Example:
        >>> format_validation(ValidationResult(7.2, 2.5, 0.9, None, {"psnr_y": 24.1}, torch.zeros(3, 1, 1)))
        'reward 7.200, F1 0.90, 2.5 tools, psnr_y 24.100'
    """
    sampled, length = result.reward_sampled, result.length_sampled
    optional = (("regret", result.regret, 3), ("F1", result.f1, 2))
    return ", ".join(
        [
            f"reward {result.reward:.3f}",
            *(f"{name} {value:.{digits}f}" for name, value, digits in optional if value is not None),
            f"{result.length:.1f} tools",
            *(f"{name} {value:.3f}" for name, value in result.metrics.items()),
            *([] if sampled is None else [f"sampled: reward {sampled:.3f}, {length:.1f} tools"]),
        ]
    )


def _image_grid(samples: Sequence[Sample], restored: Sequence[Tensor], max_rows: int = 6) -> Tensor:
    rows: list[Tensor] = []
    for sample, image in list(zip(samples, restored, strict=True))[:max_rows]:
        degraded = resize(sample.lq[None], sample.canvas)[0]
        assert sample.reference is not None
        rows.append(quantise(torch.cat([degraded, image, sample.reference], dim=-1)))
    return torch.cat(rows, dim=-2)
