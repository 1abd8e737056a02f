"""What the agents of the literature share: plans are tried on one image, looked at and judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from opera_baselines.detect import Detect
from opera_baselines.quality import QualityMix
from opera_env.errors import BudgetSpentError
from opera_env.search import best_plan
from opera_env.tools import Toolbox
from opera_env.types import Decision, Plan, Sample, Scorer


@dataclass(frozen=True, eq=False)
class Trial:
    """A plan that was run on an image.

    Attributes:
        plan: The plan.
        image: The result at canvas size, float32 (3, H, W) in [0, 1].
        reward: Quality of the result, less the cost of the tools.
        severities: Probability of each degradation in the result; empty until the detector has looked.
    """

    plan: Plan
    image: Tensor
    reward: float
    severities: dict[str, float] = field(default_factory=dict)


class Trials:
    """The plans that are tried on one image. Each is run and judged once.

    Args:
        sample: The image. Neither its reference nor its labels are read.
        scorer: Runs the plans and judges the results.
        quality: The quality of a result.
        tool_cost: Cost of each tool of a plan.

    Attributes:
        kept: The trial that the agent keeps, at first the input image. Its plan is the agent's decision.
        steps: What was done, a sentence for each step.
    """

    def __init__(self, sample: Sample, scorer: Scorer, quality: QualityMix, tool_cost: float) -> None:
        self._sample, self._scorer, self._quality, self._tool_cost = sample, scorer, quality, tool_cost
        self._trials: dict[Plan, Trial] = {}
        self.steps: list[str] = []
        self.kept = self.run(())

    def run(self, plan: Plan) -> Trial:
        """Runs and judges a plan.

        Raises:
            BudgetSpentError: If the budget has not enough tools left.
        """
        if plan not in self._trials:
            (outcome,) = self._scorer.score([self._sample], [plan])
            reward = self._quality(outcome) - self._tool_cost * len(plan)
            self._trials[plan] = Trial(plan, outcome.image(), reward)
        return self._trials[plan]

    def extend(self, tool: str) -> Trial:
        """Runs and judges the plan that is kept with one more tool."""
        return self.run((*self.kept.plan, tool))

    def keep(self, trial: Trial) -> None:
        """Keeps a trial; further tools follow on it."""
        self.steps.append(f"{trial.plan[-1]} kept, {self.kept.reward:.2f} to {trial.reward:.2f}.")
        self.kept = trial

    def keep_best(self) -> None:
        """Keeps the best of all trials, as any search does whose budget has ended."""
        best = best_plan({plan: trial.reward for plan, trial in self._trials.items()})
        if best != self.kept.plan:
            self.steps.append(f"Budget spent, best plan so far kept: {', '.join(best) or 'none'}.")
            self.kept = self._trials[best]

    def roll_back(self, what: str) -> None:
        """Notes that a step was undone; the trial that is kept stays."""
        self.steps.append(f"{what} undone.")


class TrialSearch(ABC):
    """A search that handles one image after the other, and sees images and judged results alone.

    A subclass says in :meth:`restore` what it tries and keeps. If the budget ends before that, the best
    trial is the decision. The judge is the reward that the scorer has: with ``-blind`` the critic.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool of a plan, subtracted from the quality.
        seed: Seed of what an agent draws, together with the image.
        profile: What the quality of a result is, see :mod:`opera_baselines.quality`.
        threshold: Probability above which the detector sees a degradation.

    Raises:
        AgentError: If there is no such profile.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        max_tools: int = 6,
        tool_cost: float = 0.0,
        seed: int = 0,
        profile: str = "judge",
        threshold: float = 0.5,
    ) -> None:
        self.toolbox, self.max_tools, self.tool_cost, self.seed = toolbox, max_tools, tool_cost, seed
        self.threshold = threshold
        self.quality = QualityMix(profile, toolbox.device)
        self._detector = Detect(toolbox)

    @abstractmethod
    def restore(self, trials: Trials) -> None:
        """Tries plans on an image; the one that is kept at the end is the decision."""

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        return [decision.plan for decision in self.decide(samples, scorer)]

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        """Returns the plan of each sample, the degradations that were seen at first, and the steps."""
        decisions: list[Decision] = []
        for sample in samples:
            trials = Trials(sample, scorer, self.quality, self.tool_cost)
            severities = self.severities(trials.kept)
            try:
                self.restore(trials)
            except BudgetSpentError:
                trials.keep_best()
            seen = frozenset(name for name, value in severities.items() if value > self.threshold)
            steps = " ".join(trials.steps) or None
            decisions.append(Decision(trials.kept.plan, seen, steps, probabilities=severities))
        return decisions

    def severities(self, trial: Trial) -> dict[str, float]:
        """Returns the probability of each degradation in a result, in the order of recipes."""
        if not trial.severities:
            (row,) = self._detector.probabilities([trial.image]).tolist()
            trial.severities.update(zip(self._detector.degradations, row, strict=True))
        return trial.severities

    def look(self, trial: Trial) -> list[str]:
        """Returns the degradations that the detector sees and a tool is for, the last applied first."""
        severities = self.severities(trial)
        return [
            name
            for name in reversed(severities)
            if severities[name] > self.threshold and self.tools_for(name)
        ]

    def tools_for(self, degradation: str) -> list[str]:
        """Returns the names of the tools that are for a degradation, in the order of the toolbox."""
        return [tool.name for tool in self.toolbox if degradation in tool.degradations]

    def has_room(self, trials: Trials) -> bool:
        """Returns whether the plan that is kept may have one more tool."""
        return len(trials.kept.plan) < self.max_tools
