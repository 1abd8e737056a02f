"""Agents against a benchmark: who mends how much, at what price, how far from the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from opera_env.agents import BLIND_SUFFIX, label_free_scorer, make_agent, run_agent
from opera_env.degradations import benchmark_group
from opera_env.evaluation.scorers import CachingScorer, _RecordingScorer
from opera_env.evaluation.stats import bootstrap_interval
from opera_env.execution import PrefixCache
from opera_env.reward import Reward, env_reward
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans, beam_search
from opera_env.tools import Toolbox
from opera_env.types import Agent, Plan, Sample, SampleSpec, Search

CHUNK = 4
"""Samples given to an agent at once: the grain of the progress bar."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How agents are compared.

    Attributes:
        reward: Preset, or a reward of one's own.
        max_tools: Longest plan.
        tool_cost: Taken from R_q per tool, for searches, rewards and regret alike.
        num_plans: Plans that an agent which can sample several tries for each image.
        seed: Of random agents and of the bootstrap.
        frozen_max_length: The frozen set has all plans up to this length ...
        frozen_beam_width: ... and what a beam of this width finds.
        regret: Whether to search the frozen set at all.
    """

    reward: str | Reward = "lite"
    max_tools: int = 6
    tool_cost: float = 0.0
    num_plans: int = 1
    seed: int = 0
    frozen_max_length: int = 2
    frozen_beam_width: int = 8
    regret: bool = True


@dataclass(frozen=True)
class Record:
    """What one agent did with one sample.

    Attributes:
        reward: R_q less the cost of the tools.
        regret: Reward of the best plan of the frozen set less this reward; None if no
            frozen set was searched.
        error: Why the agent's answer could not be read, if so.
    """

    agent: str
    spec: SampleSpec
    plan: Plan
    reward: float
    r_q: float
    metrics: Mapping[str, float]
    regret: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Cost:
    """What an agent's choices cost.

    Attributes:
        images_scored: Results it had judged before it chose; 0 for one that only looks.
        tools_run: Tool applications it had run before it chose.
        seconds: Time it took to choose.
    """

    images_scored: int
    tools_run: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """The records of a comparison and what they cost.

    Attributes:
        records: One per agent and sample.
        prices: One per agent.
        frozen_set_size: Mean number of plans per sample in the frozen set; None if there was none.
        config: How they were compared.
        toolbox: Signature and fingerprint of the tools.
    """

    records: list[Record]
    costs: dict[str, Cost]
    frozen_set_size: float | None
    config: EvaluationConfig
    toolbox: Mapping[str, str] = field(default_factory=dict)


def compare_agents(
    agents: Sequence[str] | Mapping[str, Agent | Search],
    samples: Sequence[Sample],
    toolbox: Toolbox,
    config: EvaluationConfig | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Lets agents play the same samples and judges all of them by one scorer.

    Args:
        agents: Names, as :func:`opera_env.agents.make_agent` takes them, or agents by name. A
            search whose name ends in ``-blind`` sees neither reference nor labels.
        samples: The benchmark.
        toolbox: The tools.
        config: How they are compared.
        progress: Called with an agent's name, samples done and samples in all.

    Returns:
        Records and prices.
    """
    config = config or EvaluationConfig()
    progress = progress or (lambda name, done, total: None)
    ledger = CachingScorer(PlanScorer(toolbox, config.reward, cache=PrefixCache()))
    plans: dict[str, list[Plan]] = {}
    errors: dict[str, list[str | None]] = {}
    costs: dict[str, Cost] = {}
    for name in agents:
        player = agents[name] if isinstance(agents, Mapping) else _make(name, toolbox, config)
        plans[name], errors[name], costs[name] = _run_agent(
            name, player, samples, toolbox, config, ledger, progress
        )

    best: list[float | None] = [None] * len(samples)
    seen: list[int] = []
    if config.regret:
        for index, sample in enumerate(samples):
            frozen = frozen_set(sample, ledger, config)
            best[index] = ledger.best(sample, frozen, config.tool_cost)
            seen.append(len(frozen))
            progress("best plans known", index + 1, len(samples))

    records: list[Record] = []
    for name in agents:
        outcomes = ledger.score(samples, plans[name])
        for sample, plan, outcome, top, error in zip(
            samples, plans[name], outcomes, best, errors[name], strict=True
        ):
            reward = env_reward(outcome, config.tool_cost)
            regret = None if top is None else top - reward
            records.append(
                Record(name, sample.spec, plan, reward, outcome.r_q, outcome.metrics, regret, error)
            )
    identity = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    return Comparison(records, costs, float(np.mean(seen)) if seen else None, config, identity)


def _make(name: str, toolbox: Toolbox, config: EvaluationConfig) -> Agent | Search:
    return make_agent(
        name.removesuffix(BLIND_SUFFIX),
        toolbox=toolbox,
        max_tools=config.max_tools,
        seed=config.seed,
        tool_cost=config.tool_cost,
        num_plans=config.num_plans,
    )


def _run_agent(
    name: str,
    player: Agent | Search,
    samples: Sequence[Sample],
    toolbox: Toolbox,
    config: EvaluationConfig,
    ledger: CachingScorer,
    progress: Callable[[str, int, int], None],
) -> tuple[list[Plan], list[str | None], Cost]:
    """Lets one agent choose, with a scorer of its own, so that its price is its own."""
    blind = name.endswith(BLIND_SUFFIX)
    scorer = PlanScorer(toolbox, config.reward, cache=PrefixCache())
    if blind:
        scorer = label_free_scorer(scorer)
    listener = scorer if blind or not isinstance(player, Search) else _RecordingScorer(scorer, ledger)
    plans: list[Plan] = []
    errors: list[str | None] = []
    start = time.perf_counter()
    for first in range(0, len(samples), CHUNK):
        chunk = samples[first : first + CHUNK]
        chunk = [sample.blind() for sample in chunk] if blind else chunk
        played = run_agent(player, chunk, listener, config.max_tools)
        plans += played.plans
        errors += [
            None if decision is None or decision.error is None else str(decision.error)
            for decision in played.decisions
        ]
        progress(name, len(plans), len(samples))
    seconds = time.perf_counter() - start
    return plans, errors, Cost(scorer.images_scored, scorer.tools_run, seconds)


def frozen_set(sample: Sample, ledger: CachingScorer, config: EvaluationConfig) -> list[Plan]:
    """Scores the plans that regret is measured against: all short ones and a beam's.

    The set does not depend on which agents play: what they tried only saves work.
    """
    short = all_plans(ledger.tool_names, min(config.frozen_max_length, config.max_tools))
    ledger.score([sample] * len(short), short)
    found = beam_search([sample], ledger, config.frozen_beam_width, config.max_tools, config.tool_cost)[0]
    return list(dict.fromkeys([*short, *found]))


def summarise(comparison: Comparison) -> dict[str, Any]:
    """Turns records into the tables people read: JSON types only.

    Returns:
        ``agents``: by name the reward with its interval, mean metrics, tools per plan, price
        and regret. ``groups``: by benchmark group and agent the mean reward, each of the
        group's combinations counting the same. ``differences``: paired, each agent less
        each agent listed before it. ``config``: what was compared.
    """
    by_agent: dict[str, list[Record]] = {}
    for record in comparison.records:
        by_agent.setdefault(record.agent, []).append(record)
    images = [record.spec.source_image for record in next(iter(by_agent.values()))]
    seed = comparison.config.seed
    rewards = {name: np.array([record.reward for record in rows]) for name, rows in by_agent.items()}
    agents: dict[str, Any] = {}
    for name, rows in by_agent.items():
        price = comparison.costs[name]
        regrets = [record.regret for record in rows if record.regret is not None]
        agents[name] = {
            "reward": asdict(bootstrap_interval(list(rewards[name]), images, seed)),
            **{key: float(np.mean([row.metrics[key] for row in rows])) for key in rows[0].metrics},
            "tools": float(np.mean([len(row.plan) for row in rows])),
            "images_scored": price.images_scored,
            "tools_run": price.tools_run,
            "seconds": price.seconds,
            "regret": float(np.mean(regrets)) if regrets else None,
            "errors": sum(row.error is not None for row in rows),
        }
    names = list(by_agent)
    differences = {
        f"{later} - {earlier}": asdict(
            bootstrap_interval(list(rewards[later] - rewards[earlier]), images, seed)
        )
        for position, later in enumerate(names)
        for earlier in names[:position]
    }
    config = asdict(comparison.config)
    config["reward"] = getattr(comparison.config.reward, "name", comparison.config.reward)
    config |= {"frozen_set_size": comparison.frozen_set_size, "samples": len(images), **comparison.toolbox}
    return {
        "agents": agents,
        "groups": {name: _group_means(rows) for name, rows in by_agent.items()},
        "differences": differences,
        "config": config,
    }


def _group_means(rows: Sequence[Record]) -> dict[str, float]:
    """Mean reward per benchmark group: the unweighted mean over its combinations."""
    recipes: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for row in rows:
        group = benchmark_group(row.spec.recipe)
        if group is not None:
            recipes.setdefault(group, {}).setdefault(row.spec.recipe, []).append(row.reward)
    return {
        group: float(np.mean([np.mean(values) for values in of_recipe.values()]))
        for group, of_recipe in sorted(recipes.items())
    }
