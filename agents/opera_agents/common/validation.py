"""A fixed set of photographs on which learners are watched: reward, regret, pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from opera_env.agents import run_agent
from opera_env.data import clean_folder
from opera_env.data.images import quantise, resize
from opera_env.degradations import benchmark_recipes
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
    """How an agent does on the validation set.

    Attributes:
        reward: Mean R_q less the cost of the tools.
        length: Mean number of tools.
        f1: Mean F1 of the degradations it names; None if it names none.
        regret: Mean distance to the best of the frozen set; None if that is not known.
        metrics: Means of what the reward was made of.
        picture: Input, result and original of the first photographs, uint8 (3, H, W).
    """

    reward: float
    length: float
    f1: float | None
    regret: float | None
    metrics: dict[str, float]
    picture: Tensor


class Validation:
    """Photographs of the benchmark's combinations, the same for every learner.

    Args:
        folder: Clean photographs.
        toolbox: The tools.
        reward: What counts as quality.
        count: How many samples.
        canvas: Side of the crops.
        max_tools: Longest plan.
        tool_cost: Taken from R_q per tool.
        frozen: Folder in which the best rewards of the frozen set are kept, which take minutes to find;
            None leaves regret out.
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
        frozen: Path | None = None,
    ) -> None:
        source = clean_folder(folder, canvas)
        specs = source.list_specs(count, benchmark_recipes(), np.random.default_rng(0))
        self.samples = [source.make(spec) for spec in specs]
        self.scorer = PlanScorer(toolbox, reward)
        self.max_tools, self.tool_cost = max_tools, tool_cost
        self.best = None if frozen is None else self._load_or_search_best(frozen)

    def __call__(self, agent: Agent | Search) -> ValidationResult:
        """Lets an agent play all of it."""
        played = run_agent(agent, self.samples, self.scorer, self.max_tools)
        outcomes = self.scorer.score(self.samples, played.plans)
        rewards = [env_reward(outcome, self.tool_cost) for outcome in outcomes]
        said = [
            f1_score(decision.degradations, sample.degradations or frozenset())
            for decision, sample in zip(played.decisions, self.samples, strict=True)
            if decision is not None and decision.degradations is not None
        ]
        return ValidationResult(
            reward=float(np.mean(rewards)),
            length=float(np.mean([len(plan) for plan in played.plans])),
            f1=float(np.mean(said)) if said else None,
            regret=None if self.best is None else float(np.mean(np.subtract(self.best, rewards))),
            metrics={
                name: float(np.mean([outcome.metrics[name] for outcome in outcomes]))
                for name in outcomes[0].metrics
            },
            picture=_picture(self.samples, [outcome.image() for outcome in outcomes]),
        )

    def _load_or_search_best(self, folder: Path) -> list[float]:
        """Reads the best reward of each sample, or searches it and writes it down."""
        toolbox, reward = self.scorer.toolbox, self.scorer.reward
        key = f"{toolbox.fingerprint} {reward} {self.max_tools} {self.tool_cost} " + " ".join(
            sample.key for sample in self.samples
        )
        path = folder / f"frozen-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        if not path.is_file():
            config = EvaluationConfig(reward, self.max_tools, self.tool_cost)
            found: list[float] = []
            for sample in track(self.samples, description="best plans of the validation set"):
                ledger = CachingScorer(PlanScorer(toolbox, reward, cache=PrefixCache()))
                found.append(ledger.best(sample, frozen_set(sample, ledger, config), self.tool_cost))
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as part:
                part.write_text(json.dumps(found) + "\n")
        return json.loads(path.read_text())


def log_validation(writer: SummaryWriter, watched: ValidationResult, step: int) -> None:
    """Writes how a learner does on the validation set, under the same names for all of them."""
    for name in ("reward", "length", "f1", "regret"):
        if (value := getattr(watched, name)) is not None:
            writer.add_scalar(f"val/{name}", value, step)
    for name, value in watched.metrics.items():
        writer.add_scalar(f"val/{name}", value, step)
    writer.add_image("val/input_restored_clean", watched.picture, step)


def _picture(samples: Sequence[Sample], restored: Sequence[Tensor], rows: int = 6) -> Tensor:
    drawn: list[Tensor] = []
    for sample, image in list(zip(samples, restored, strict=True))[:rows]:
        before = resize(sample.lq[None], sample.canvas)[0]
        assert sample.reference is not None
        drawn.append(quantise(torch.cat([before, image, sample.reference], dim=-1)))
    return torch.cat(drawn, dim=-2)
