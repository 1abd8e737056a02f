"""Runs agents with one toolbox on one sample at a time, and judges their plans."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opera_env.agents import BLIND_SUFFIX, AgentRun
from opera_env.budget import BudgetedScorer
from opera_env.errors import SettingError
from opera_env.evaluation.agent_runs import (
    make_compared_agent,
    run_compared_agent,
    run_within_budget,
    visible_scorer,
)
from opera_env.evaluation.benchmarks import EACH_TOOL, Benchmark, BenchmarkSample, image_digest
from opera_env.evaluation.judging import Judge
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.evaluation.records import Cost, EvaluationConfig
from opera_env.evaluation.results import (
    SINGLE_PREFIX,
    Result,
    answer_json,
    package_versions,
    spec_digest,
)
from opera_env.evaluation.scorers import RememberingScorer
from opera_env.execution import PrefixCache
from opera_env.reward import Reward
from opera_env.runs.identity import identify_agent
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Decision, Plan, Sample, Search

Agents = Sequence[str] | Mapping[str, Agent | Search]
"""Names of agents, or agents by name."""


class ToolboxRunner:
    """Runs agents with one toolbox, and judges their plans.

    Args:
        name: Name of the toolbox in the results.
        toolbox: The tools.
        agents: The agents; all of them are made at once, so that a name that is no agent costs no time.
        config: Their settings, with the reward that they see.
        judge: The reward by which results are judged.
        columns: The metrics of the tables, shared by several toolboxes.
        budgets: Budgets with which each agent runs; by default that of ``config`` alone. Agents are made
            with the largest one, and a smaller one ends a search that does not know of it.

    Attributes:
        budgets: The budgets, ascending; None alone for no limit.
        scorers: The scorer of each agent, without references for a blind one.

    Raises:
        UnknownPresetError: If there is no agent or reward of a name.
        MissingWeightsError: If a reward needs a weight file that is absent.
    """

    def __init__(
        self,
        name: str,
        toolbox: Toolbox,
        agents: Agents,
        config: EvaluationConfig,
        judge: str | Reward,
        columns: ColumnMetrics,
        budgets: Sequence[int] = (),
    ) -> None:
        self.name, self.toolbox = name, toolbox
        self.budgets: tuple[int | None, ...] = tuple(sorted(set(budgets))) or (config.budget,)
        config = replace(config, budget=self.budgets[-1])
        self._config = config
        self._names = _reward_name(config.reward), _reward_name(judge)
        self._judge = Judge(toolbox, judge, config.reward, columns)
        self._tools = {SINGLE_PREFIX + tool.name: tool for tool in toolbox if EACH_TOOL in agents}
        self._agents: dict[str, Agent | Search] = {}
        self._contents: dict[str, str | None] = {}
        for agent in agents if isinstance(agents, Mapping) else expand_agents(agents, toolbox):
            made = agents[agent] if isinstance(agents, Mapping) else None
            name, content = _identify(agent)
            if name in self._agents:
                expected = f"another folder; results would call two of them {name}"
                raise SettingError("agents", agent, expected)
            self._contents[name] = content
            self._agents[name] = made or make_compared_agent(agent, toolbox, config)
        scorer = PlanScorer(toolbox, config.reward, cache=PrefixCache()) if self._agents else None
        self.scorers = {agent: visible_scorer(agent, scorer) for agent in self._agents if scorer}
        self._ids = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
        self._versions = package_versions()

    @property
    def agent_names(self) -> tuple[str, ...]:
        """Names of the agents."""
        return tuple(self._agents)

    def agents_for(self, sample: BenchmarkSample) -> list[str]:
        """Returns the agents that run on a sample; of :data:`EACH_TOOL` these are the tools for it."""
        needed = set(sample.spec.recipe)
        return [
            agent
            for agent in self._agents
            if agent not in self._tools or not needed or needed & set(self._tools[agent].degradations)
        ]

    def key(self, agent: str, sample: BenchmarkSample) -> str:
        """Returns what tells a work item from all others."""
        content = self._contents.get(agent)
        return f"{self._ids['fingerprint']} {agent} {content or ''} {spec_digest(sample.spec)}"

    def keys(self, agent: str, sample: BenchmarkSample) -> list[str]:
        """Returns what tells the results of a work item, one for each budget, from all others."""
        key = self.key(agent, sample)
        return [key if len(self.budgets) == 1 else f"{key} {budget}" for budget in self.budgets]

    def run(self, agent: str, benchmark: Benchmark, sample: BenchmarkSample, made: Sample) -> list[Result]:
        """Runs an agent on a sample with each budget, and judges its plans.

        A search runs with the largest budget first, and reuses its outcomes with the smaller ones.

        Args:
            agent: Name of the agent.
            benchmark: The benchmark.
            sample: A sample of it.
            made: The sample that the benchmark has made of it.

        Returns:
            One result for each of :attr:`budgets`.
        """
        remembering = RememberingScorer(self.scorers[agent])
        results: list[Result] = []
        for budget in reversed(self.budgets):
            run, cost = self._run_once(agent, made, budget, remembering)
            plan, answer = run.plans[0], _answer(run)
            results.append(self.judge(agent, plan, benchmark, sample, made, cost, answer, budget))
        return results[::-1]

    def _run_once(
        self, name: str, made: Sample, budget: int | None, remembering: RememberingScorer
    ) -> tuple[AgentRun, Cost]:
        """Runs an agent with one budget; its cost does not depend on what has run before."""
        agent, scorer, config = (
            self._agents[name],
            self.scorers[name],
            replace(self._config, budget=budget),
        )
        scorer.clear_caches()
        start = time.perf_counter()
        if isinstance(agent, Search) and budget is not None:
            seen = made.blind() if name.endswith(BLIND_SUFFIX) else made
            budgeted = BudgetedScorer(remembering, budget, config.tool_cost)
            remembering.seconds_reused = 0.0
            run = run_within_budget(agent, seen, budgeted, config)
            seconds = time.perf_counter() - start + remembering.seconds_reused
            return run, Cost(budgeted.images_scored(seen), budgeted.tools_run(seen), seconds)
        before = scorer.images_scored, scorer.tools_run
        run = run_compared_agent(name, agent, [made], scorer, config)
        seconds = time.perf_counter() - start
        return run, Cost(scorer.images_scored - before[0], scorer.tools_run - before[1], seconds)

    def judge(
        self,
        agent: str,
        plan: Plan,
        benchmark: Benchmark,
        sample: BenchmarkSample,
        made: Sample,
        cost: Cost | None = None,
        answer: Mapping[str, Any] | None = None,
        budget: int | None = None,
    ) -> Result:
        """Judges a plan; the arguments are those of :meth:`run` and what the agent has returned."""
        judged, untouched = self._judge.score(made, plan), self._judge.score(made, ())
        config = self._config
        return Result(
            benchmark=benchmark.name,
            group=sample.group,
            combination=sample.combination,
            spec=sample.spec,
            input=image_digest(made.lq),
            reference=None if made.reference is None else image_digest(made.reference),
            toolbox=self.name,
            agent=agent,
            plan=plan,
            answer=answer,
            metrics=judged.metrics,
            missing=judged.missing,
            reward=self._names[0],
            judge=self._names[1],
            r_q=judged.r_q,
            r_q_seen=judged.r_q_seen,
            input_r_q=untouched.r_q,
            input_r_q_seen=untouched.r_q_seen,
            cost=cost or Cost(0, 0, 0.0),
            settings={
                "max_tools": config.max_tools,
                "tool_cost": config.tool_cost,
                "num_plans": config.num_plans,
                "seed": config.seed,
                "agent_content": self._contents.get(agent),
                **({} if budget is None else {"budget": budget}),
            },
            versions=self._versions,
            **self._ids,
        )


def _reward_name(reward: str | Reward) -> str:
    """Returns the name by which :func:`opera_env.reward.get_reward` finds a reward again, if it has one."""
    return reward if isinstance(reward, str) else reward.name


def _identify(agent: str) -> tuple[str, str | None]:
    """Returns the name of an agent without the place of its files, and a digest of these if it has any."""
    bare = agent.removesuffix(BLIND_SUFFIX)
    identity = identify_agent(bare)
    if isinstance(identity, str):
        return agent, None
    return identity["name"] + agent[len(bare) :], identity["content"]


def expand_agents(names: Sequence[str], toolbox: Toolbox) -> list[str]:
    """Returns names of agents, each once, with those of single tools in the place of :data:`EACH_TOOL`."""
    expanded: list[str] = []
    for name in names:
        expanded += [SINGLE_PREFIX + tool for tool in toolbox.names] if name == EACH_TOOL else [name]
    return list(dict.fromkeys(expanded))


def _answer(run: AgentRun) -> dict[str, Any] | None:
    """Returns what a decision says in words; None if it says nothing."""
    decision: Decision | None = run.decisions[0] if run.decisions else None
    answer = {} if decision is None else answer_json(decision)
    return answer if any(value is not None for value in answer.values()) else None
