"""Comparison of agents on the same samples: rewards, costs and regret."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from opera_env.agents import BLIND_SUFFIX
from opera_env.evaluation.agent_runs import make_compared_agent, run_compared_agent, visible_scorer
from opera_env.evaluation.partial import KeptResults, PartialResults
from opera_env.evaluation.records import Comparison, Cost, EvaluationConfig, Record
from opera_env.evaluation.scorers import CachingScorer
from opera_env.execution import PrefixCache
from opera_env.reward import env_reward
from opera_env.runs.identity import identify_agent
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans, beam_search
from opera_env.tools import Toolbox
from opera_env.types import Agent, Plan, Sample, Search

BATCH_SIZE = 4
"""Samples given to an agent at once; the progress is reported after each batch."""

ProgressCallback = Callable[[str, int, int], None]
"""Called with the name of an agent, the number of samples done and the number of samples in all."""


@dataclass(frozen=True)
class _AgentRun:
    """What one agent has decided; see :class:`Record` and :class:`Cost`."""

    plans: list[Plan]
    errors: list[str | None]
    cost: Cost

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> _AgentRun:
        return cls([tuple(plan) for plan in data["plans"]], list(data["errors"]), Cost(**data["cost"]))


def compare_agents(
    agents: Sequence[str] | Mapping[str, Agent | Search],
    samples: Sequence[Sample],
    toolbox: Toolbox,
    config: EvaluationConfig | None = None,
    progress: ProgressCallback | None = None,
    partial: PartialResults | None = None,
) -> Comparison:
    """Runs agents on the same samples and scores their plans by the same scorer.

    Args:
        agents: Names, as :func:`opera_env.agents.make_agent` takes them, or agents by name. An agent
            whose name ends in ``-blind`` receives neither reference nor labels; a search then uses a
            reward that needs no reference.
        samples: The samples.
        toolbox: The tools.
        config: How the agents are compared.
        progress: Called after each batch of samples.
        partial: Keeps the plans and costs of each agent as soon as it has run. Those that it has already,
            from an interrupted comparison, are taken from it.

    Returns:
        The records and the costs.

    Raises:
        UnknownPresetError: If there is no agent of that name.
        AgentError: If an agent does not follow the protocol.
    """
    config = config or EvaluationConfig()
    progress = progress or (lambda name, done, total: None)
    caching_scorer = CachingScorer(PlanScorer(toolbox, config.reward, cache=PrefixCache()))
    results = KeptResults(samples, caching_scorer, partial)
    # All agents are made before the first one runs, so that a name that is no agent costs no time.
    made = {
        name: agents[name] if isinstance(agents, Mapping) else make_compared_agent(name, toolbox, config)
        for name in agents
        if not results.has(_agent_key(name))
    }
    runs: dict[str, _AgentRun] = {}
    for name in agents:
        if name in made:
            run = _run_one_agent(name, made[name], samples, toolbox, config, caching_scorer, progress)
            results.keep(_agent_key(name), asdict(run))
        else:
            run = _AgentRun.from_json(results.restore(_agent_key(name)))
            progress(name, len(samples), len(samples))
        runs[name] = run
    best_rewards: list[float | None] = [None] * len(samples)
    set_sizes: list[int] = []
    for index, sample in enumerate(samples if config.regret else ()):
        key = f"frozen set {index}"
        if not results.has(key):
            results.keep(key, frozen_set(sample, caching_scorer, config))
        frozen = [tuple(plan) for plan in results.restore(key)]
        best_rewards[index] = caching_scorer.best_reward(sample, frozen, config.tool_cost)
        set_sizes.append(len(frozen))
        progress("frozen set", index + 1, len(samples))
    records = [
        record
        for name, run in runs.items()
        for record in _records(name, run, samples, caching_scorer, best_rewards, config.tool_cost)
    ]
    ids = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    costs = {name: run.cost for name, run in runs.items()}
    return Comparison(records, costs, float(np.mean(set_sizes)) if set_sizes else None, config, ids)


def _agent_key(name: str) -> str:
    """Returns what tells the results of an agent from all others, and from its own before more training."""
    identity = identify_agent(name.removesuffix(BLIND_SUFFIX))
    return f"agent {name}" + ("" if isinstance(identity, str) else f" {identity['content']}")


def _records(
    name: str,
    run: _AgentRun,
    samples: Sequence[Sample],
    caching_scorer: CachingScorer,
    best_rewards: Sequence[float | None],
    tool_cost: float,
) -> Iterator[Record]:
    """Scores the plans of an agent and yields a record for each sample."""
    outcomes = caching_scorer.score(samples, run.plans)
    for sample, plan, outcome, best, error in zip(
        samples, run.plans, outcomes, best_rewards, run.errors, strict=True
    ):
        reward = env_reward(outcome, tool_cost)
        regret = None if best is None else best - reward
        yield Record(name, sample.spec, plan, reward, outcome.r_q, outcome.metrics, regret, error)


def _run_one_agent(
    name: str,
    agent: Agent | Search,
    samples: Sequence[Sample],
    toolbox: Toolbox,
    config: EvaluationConfig,
    caching_scorer: CachingScorer,
    progress: ProgressCallback,
) -> _AgentRun:
    """Runs one agent with a new scorer, which counts the cost of its decisions."""
    scorer = visible_scorer(name, PlanScorer(toolbox, config.reward, cache=PrefixCache()))
    plans: list[Plan] = []
    errors: list[str | None] = []
    start = time.perf_counter()
    for first in range(0, len(samples), BATCH_SIZE):
        batch = samples[first : first + BATCH_SIZE]
        result = run_compared_agent(name, agent, batch, scorer, config, caching_scorer)
        plans += result.plans
        errors += [
            None if decision is None or decision.error is None else str(decision.error)
            for decision in result.decisions
        ]
        progress(name, len(plans), len(samples))
    seconds = time.perf_counter() - start
    return _AgentRun(plans, errors, Cost(scorer.images_scored, scorer.tools_run, seconds))


def frozen_set(sample: Sample, caching_scorer: CachingScorer, config: EvaluationConfig) -> list[Plan]:
    """Scores and returns the frozen set of plans: all short plans and those of a beam search.

    Regret is measured to the best of them. The set does not depend on the agents that are compared; plans
    that they have scored are only not scored again.

    Args:
        sample: The sample.
        caching_scorer: Scores the plans and keeps the outcomes.
        config: Length of the short plans and width of the beam.
    """
    short_plans = all_plans(caching_scorer.tool_names, min(config.frozen_max_length, config.max_tools))
    caching_scorer.score([sample] * len(short_plans), short_plans)
    beam_plans = beam_search(
        [sample], caching_scorer, config.frozen_beam_width, config.max_tools, config.tool_cost
    )[0]
    return list(dict.fromkeys([*short_plans, *beam_plans]))
