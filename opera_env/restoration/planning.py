"""Planning for one photograph: runs an agent and keeps its decision, its scores and its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opera_env.agents import BLIND_SUFFIX, act, make_agent, run_agent
from opera_env.errors import AgentError
from opera_env.execution import PrefixCache
from opera_env.execution.tool_runner import ToolProgressCallback
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
    """

    decision: Decision
    scores: Mapping[Plan, float] = field(default_factory=dict)
    reason: str | None = None


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
        self._scorer = PlanScorer(toolbox, "label_free", cache=PrefixCache(SEARCH_CACHE_BYTES))
        self.max_plans = None
        if isinstance(self._agent, CountingSearch):
            self.max_plans = self._agent.count_plans(len(toolbox))
        self.min_side = max(metric.min_side for metric in self._scorer.metrics.metrics)

    def plan(self, sample: Sample, on_tile: ToolProgressCallback | None = None) -> PlannedRestoration:
        """Runs the agent on one sample.

        Args:
            sample: The window of the photograph.
            on_tile: Called before and after each tool that runs for a plan to be scored.

        Raises:
            AgentError: If the agent's answer cannot be parsed.
        """
        self._scorer.executor.tool_runner.on_tile = on_tile
        if isinstance(self._agent, Search):
            scorer = _RecordingScorer(self._scorer)
            result = run_agent(self._agent, [sample], scorer, self._config.max_tools)
            decisions = [decision for decision in result.decisions if decision is not None]
            scores = scorer.scores
        else:
            agent = _RecordingAgent(self._agent)
            result = run_agent(agent, [sample], self._scorer, self._config.max_tools)
            decisions, scores = agent.decisions, {}
        decision = _merge(tuple(result.plans[0]), decisions)
        reason = explain_plan(decision, scores, self._config.tool_cost)
        return PlannedRestoration(decision, scores, reason)


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
    """An agent whose decisions are kept: of a closed-loop agent, ``run_agent`` returns the plan only."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.closed_loop = agent.closed_loop
        self.decisions: list[Decision] = []

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        decisions = act(self._agent, observations)
        for decision in decisions:
            if decision.error is not None:
                raise AgentError(f"the agent's answer is no plan: {decision.error}")
        self.decisions += decisions
        return decisions


class _RecordingScorer:
    """A scorer that keeps the score of every plan that a search tries on one photograph."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.scores: dict[Plan, float] = {}

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self._scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        outcomes = self._scorer.score(samples, plans, restored=restored)
        for plan, outcome in zip(plans, outcomes, strict=True):
            self.scores[plan] = outcome.r_q
        return outcomes
