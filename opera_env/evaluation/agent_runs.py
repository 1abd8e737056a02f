"""How compared agents are made and run: with the scores that they may see, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.agents import BLIND_SUFFIX, AgentRun, label_free_scorer, make_agent, run_agent
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
    )


def visible_scorer(name: str, scorer: PlanScorer) -> PlanScorer:
    """Returns the scorer that an agent may use: for one that ends in ``-blind``, one without reference."""
    return label_free_scorer(scorer) if name.endswith(BLIND_SUFFIX) else scorer


def run_compared_agent(
    name: str,
    agent: Agent | Search,
    samples: Sequence[Sample],
    scorer: PlanScorer,
    max_tools: int,
    record: CachingScorer | None = None,
) -> AgentRun:
    """Runs an agent on samples. A blind one sees neither references nor labels.

    Args:
        name: Name of the agent.
        agent: The agent.
        samples: The samples.
        scorer: What :func:`visible_scorer` has returned for the name.
        max_tools: Maximum number of tools in a plan.
        record: Keeps the outcomes of a search that is not blind.
    """
    blind = name.endswith(BLIND_SUFFIX)
    used_scorer: Scorer = scorer
    if not isinstance(agent, Search):
        used_scorer = RestoringScorer(scorer)  # a closed-loop agent observes no scores
    elif not blind and record is not None:
        used_scorer = RecordingScorer(scorer, record)
    seen = [sample.blind() for sample in samples] if blind else samples
    return run_agent(agent, seen, used_scorer, max_tools)
