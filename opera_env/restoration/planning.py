"""Planning for one photograph: runs an agent and keeps its decision, its scores and its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from opera_env.agents import BLIND_SUFFIX, act, make_agent, run_agent
from opera_env.errors import AgentError, OutputError
from opera_env.execution import PrefixCache
from opera_env.execution.tool_runner import ToolProgressCallback
from opera_env.restoration.choice import (
    NEUTRAL,
    best_strength,
    choose_plan,
    eager_bonus,
    likely_plans,
    score_strengths,
    suspected_plans,
)
from opera_env.restoration.config import RestorerConfig
from opera_env.restoration.explanation import explain_plan
from opera_env.restoration.fix import FixSearch
from opera_env.restoration.memory import SEARCH_CACHE_BYTES
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import (
    Agent,
    CountingSearch,
    Decision,
    Observation,
    Outcome,
    Plan,
    Sample,
    Scorer,
    Search,
)


@dataclass(frozen=True)
class PlannedRestoration:
    """The plan for a photograph and how it was chosen.

    Attributes:
        decision: The plan, with the degradations and their probabilities where the agent states them.
        scores: Score by the critic, in [0, 10] and higher is better, of each plan that a search tried on
            the window of the photograph; empty for other agents.
        reason: Why this plan was chosen, or why the photograph is left unchanged, in one line; None if
            it is not known.
        strength: Share of the result in its blend with the photograph.
        strengths: Score of the plan on the window at each strength that the critic compared; empty if the
            strength was given.
    """

    decision: Decision
    scores: Mapping[Plan, float] = field(default_factory=dict)
    reason: str | None = None
    strength: float = 1.0
    strengths: Mapping[float, float] = field(default_factory=dict)


class PhotographPlanner:
    """An agent or a search that plans for photographs, which have neither reference nor labels.

    Args:
        toolbox: The tools.
        config: The agent and its settings.

    Attributes:
        min_side: Shortest side, in pixels, of an image that can be scored.
        max_plans: Most plans that are scored for one photograph; None if that is not known.
    """

    def __init__(self, toolbox: Toolbox, config: RestorerConfig) -> None:
        self._config = config
        self._agent = _make_agent(toolbox, config)
        if config.eager != NEUTRAL:
            self.require_scores(f"--eager {config.eager:g}")
        self._scorer = PlanScorer(toolbox, "label_free", cache=PrefixCache(SEARCH_CACHE_BYTES))
        self.max_plans = None
        if isinstance(self._agent, CountingSearch):
            self.max_plans = self._agent.count_plans(len(toolbox))
        self.min_side = max(metric.min_side for metric in self._scorer.metrics.metrics)

    def require_scores(self, option: str) -> None:
        """Checks that the agent chooses among plans with scores.

        Args:
            option: What needs the scores, for the error.

        Raises:
            OutputError: If the agent writes one plan that is not scored.
        """
        if not isinstance(self._agent, Search):
            raise OutputError(
                f"{option} needs plans with scores, and {self._config.agent} writes one plan without: "
                "choose another --agent, or a larger --num-plans"
            )

    @property
    def sees_photographs(self) -> bool:
        """Whether the agent sees a whole photograph, of any size, at the cost of a window."""
        return isinstance(self._agent, Search) and getattr(self._agent, "sees_photographs", False)

    def plan(
        self, sample: Sample, on_tile: ToolProgressCallback | None = None, seen: Sample | None = None
    ) -> PlannedRestoration:
        """Runs the agent on one sample.

        Args:
            sample: The window of the photograph, on which plans are scored.
            on_tile: Called before and after each tool that runs for a plan to be scored.
            seen: What the agent sees, if that is more than the window.

        Raises:
            AgentError: If the agent's answer cannot be parsed.
        """
        self._scorer.executor.tool_runner.on_tile = on_tile
        if isinstance(self._agent, Search):
            scorer = _RecordingScorer(self._scorer, sample)
            result = run_agent(self._agent, [seen or sample], scorer, self._config.max_tools)
            decisions = [decision for decision in result.decisions if decision is not None]
            scores = scorer.scores
        else:
            agent, scorer = _RecordingAgent(self._agent), None
            result = run_agent(agent, [sample], self._scorer, self._config.max_tools)
            decisions, scores = agent.decisions, {}
        decision = _merge(tuple(result.plans[0]), decisions)
        config = self._config
        chooses_again = config.eager != NEUTRAL or config.variants > 0
        if scorer is not None and chooses_again and not config.fix:
            decision = self._choose_again(decision, scorer, sample)
        reason = explain_plan(decision, scores, config.tool_cost)
        if config.eager != NEUTRAL and reason is not None:
            reason += (
                f"; eagerness {config.eager:g} adds {eager_bonus(config.eager):+g} to plans with tools"
            )
        planned = PlannedRestoration(decision, scores, reason, strength=1.0)
        return planned if config.strength == 1 else self._choose_strength(planned, sample)

    def _choose_again(self, decision: Decision, scorer: _RecordingScorer, sample: Sample) -> Decision:
        """Tries what an eager person suspects and plans for all variants; chooses among all plans."""
        config, toolbox, tried = self._config, self._scorer.toolbox, scorer.scores
        plans: list[Plan] = [()]
        if decision.probabilities:
            if config.eager > NEUTRAL:
                plans += suspected_plans(toolbox, decision.probabilities, config.eager, config.max_tools)
            missing = max(0, config.variants - sum(map(bool, {**dict.fromkeys(plans), **tried})))
            likely = likely_plans(toolbox, decision.probabilities)
            plans += [plan for plan in likely if plan not in tried and plan not in plans][:missing]
        untried = [plan for plan in dict.fromkeys(plans) if plan not in tried]
        if untried:
            scorer.score([sample] * len(untried), untried, restored=False)
        return replace(decision, plan=choose_plan(tried, config.tool_cost, config.eager))

    def _choose_strength(self, planned: PlannedRestoration, sample: Sample) -> PlannedRestoration:
        """Returns the plan with its strength: the given one, or the one that the critic prefers."""
        if self._config.strength is not None:
            return replace(planned, strength=self._config.strength)
        if not planned.decision.plan:
            return planned
        strengths = score_strengths(self._scorer, sample, planned.decision.plan)
        return replace(planned, strength=best_strength(strengths), strengths=strengths)


def _make_agent(toolbox: Toolbox, config: RestorerConfig) -> Agent | Search:
    if config.fix:
        return FixSearch(toolbox, config.fix, config.max_tools, config.tool_cost)
    return make_agent(
        config.agent.removesuffix(BLIND_SUFFIX),
        toolbox=toolbox,
        max_tools=config.max_tools,
        seed=config.seed,
        tool_cost=config.tool_cost,
        num_plans=config.num_plans,
    )


def _merge(plan: Plan, decisions: Sequence[Decision]) -> Decision:
    """Returns one decision: the whole plan, the first estimate of the degradations, all reasoning."""
    reasoning = [decision.reasoning for decision in decisions if decision.reasoning]
    return Decision(
        plan,
        next((d.degradations for d in decisions if d.degradations is not None), None),
        "\n".join(reasoning) or None,
        probabilities=next((d.probabilities for d in decisions if d.probabilities is not None), None),
    )


class _RecordingAgent:
    """An agent whose decisions are kept: of a closed-loop agent, ``run_agent`` returns no reasoning."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.closed_loop = agent.closed_loop
        self.uses_history = getattr(agent, "uses_history", False)
        self.decisions: list[Decision] = []

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        decisions = act(self._agent, observations)
        for decision in decisions:
            if decision.error is not None:
                raise AgentError(f"the agent's answer is no plan: {decision.error}")
        self.decisions += decisions
        return decisions


class _RecordingScorer:
    """A scorer that keeps the score of every plan that a search tries on one photograph.

    Args:
        scorer: Scores the plans.
        window: The window of the photograph on which they are scored, whatever a search has seen.
    """

    def __init__(self, scorer: Scorer, window: Sample) -> None:
        self._scorer, self._window = scorer, window
        self.scores: dict[Plan, float] = {}

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self._scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        outcomes = self._scorer.score([self._window] * len(samples), plans, restored=restored)
        for plan, outcome in zip(plans, outcomes, strict=True):
            self.scores[plan] = outcome.r_q
        return outcomes
