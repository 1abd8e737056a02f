"""How compared agents are made and run: with the scores that they may see, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.agents import BLIND_SUFFIX, AgentRun, label_free_scorer, make_agent, run_agent
from opera_env.budget import BudgetedScorer
from opera_env.errors import BudgetSpentError
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.scorers import CachingScorer, RecordingScorer, RestoringScorer
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample, Scorer, Search


def make_compared_agent(name: str, toolbox: Toolbox, config: EvaluationConfig) -> Agent | Search:
    """Makes the agent of a name, which may end in ``-blind``, with the settings of a comparison."""
    return make_agent(
        name.removesuffix(BLIND_SUFFIX),
        toolbox=toolbox,
        max_tools=config.max_tools,
        seed=config.seed,
        tool_cost=config.tool_cost,
        num_plans=config.num_plans,
        budget=config.budget,
    )


def visible_scorer(name: str, scorer: PlanScorer) -> PlanScorer:
    """Returns the scorer that an agent may use: for one that ends in ``-blind``, one without reference."""
    return label_free_scorer(scorer) if name.endswith(BLIND_SUFFIX) else scorer


def run_compared_agent(
    name: str,
    agent: Agent | Search,
    samples: Sequence[Sample],
    scorer: PlanScorer,
    config: EvaluationConfig,
    record: CachingScorer | None = None,
) -> AgentRun:
    """Runs an agent on samples, within the budget. A blind one sees neither references nor labels.

    Args:
        name: Name of the agent.
        agent: The agent.
        samples: The samples.
        scorer: What :func:`visible_scorer` has returned for the name.
        config: The limits on tools.
        record: Keeps the outcomes of a search that is not blind.

    Returns:
        The plans. A search that asks for more tools than its budget has left, and does not decide by
        itself then, gets the best plan that it has scored. A closed-loop agent writes plans of at most as
        many tools as the budget. An open-loop agent runs nothing before it decides.
    """
    blind = name.endswith(BLIND_SUFFIX)
    seen = [sample.blind() for sample in samples] if blind else samples
    if not isinstance(agent, Search):  # a closed-loop agent observes no scores
        most = min(config.max_tools, config.budget or config.max_tools)
        max_tools = most if agent.closed_loop else config.max_tools
        return run_agent(agent, seen, RestoringScorer(scorer), max_tools)
    used_scorer: Scorer = scorer
    if not blind and record is not None:
        used_scorer = RecordingScorer(scorer, record)
    if config.budget is None:
        return run_agent(agent, seen, used_scorer, config.max_tools)
    runs = [
        run_within_budget(
            agent, sample, BudgetedScorer(used_scorer, config.budget, config.tool_cost), config
        )
        for sample in seen
    ]
    return AgentRun(
        [plan for run in runs for plan in run.plans],
        [decision for run in runs for decision in run.decisions],
    )


def run_within_budget(
    search: Search, sample: Sample, scorer: BudgetedScorer, config: EvaluationConfig
) -> AgentRun:
    """Runs a search on one sample; the best plan so far counts if its budget ends before it does."""
    try:
        return run_agent(search, [sample], scorer, config.max_tools)
    except BudgetSpentError:
        return AgentRun([scorer.best_plan(sample)], [None])
