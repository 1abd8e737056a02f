"""Finds agents by name and lets them play: anything with the contract's protocols becomes plans."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from opera_env.envs.observation import Episode, observe
from opera_env.errors import AgentError, UnknownPresetError
from opera_env.scoring import PlanScorer
from opera_env.types import Agent, DecidingSearch, Decision, Plan, Sample, Scorer, Search

ENTRY_POINT_GROUP = "opera_env.agents"
BLIND_SUFFIX = "-blind"
"""Suffix that makes a search blind: no reference, no labels, a label-free scorer."""


def agent_names() -> tuple[str, ...]:
    """Names of the installed agents."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def make_agent(name: str, **options: Any) -> Agent | Search:
    """Makes an agent or search.

    Args:
        name: Name in the entry-point group ``opera_env.agents``; ``name:path`` for one that was trained
            and lies in a folder; or ``module:attribute``.
        **options: Offered to it (``toolbox``, ``max_tools``, ``seed``, ``tool_cost``, ``num_plans``); it
            gets those that its signature names.

    Raises:
        UnknownPresetError: If there is no agent of that name.
        AgentError: If what is there is neither an agent nor a search, or takes no path.
    """
    module, _, attribute = name.partition(":")
    found = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == module]
    if found:
        factory = found[0].load()
        options |= {"path": attribute} if attribute else {}
    elif attribute:
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise AgentError(f"agent {name!r} cannot be imported: {error}") from error
    else:
        raise UnknownPresetError("agent", name, (*agent_names(), "module:attribute"))
    try:
        accepted = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise AgentError(f"agent {name!r} is {factory!r}: expected a class or function.") from error
    if found and attribute and "path" not in accepted:
        raise AgentError(
            f"agent {module!r} is not trained, so there is no folder to load it from: {name!r}."
        )
    player = factory(**{key: value for key, value in options.items() if key in accepted})
    if not isinstance(player, Agent | Search):
        raise AgentError(
            f"agent {name!r} is a {type(player).__name__}: expected act(observations) and closed_loop, "
            "or search(samples, scorer), as in opera_env.types."
        )
    return player


@dataclass(frozen=True)
class AgentRun:
    """What an agent did with some samples.

    Attributes:
        plans: One per sample.
        decisions: What an open-loop agent or a :class:`DecidingSearch` decided; None for other searches
            and for closed-loop agents.
    """

    plans: list[Plan]
    decisions: list[Decision | None] = field(default_factory=list)


def run_agent(
    player: Agent | Search, samples: Sequence[Sample], scorer: Scorer, max_tools: int
) -> AgentRun:
    """Lets an agent or a search choose plans.

    Args:
        player: Who plays.
        samples: The images; pass ``sample.blind()`` to hide the reference from a search.
        scorer: What a search may ask. Agents that look again after each tool are shown what
            it restored.
        max_tools: Longest plan; a longer one is an error.

    Raises:
        AgentError: If it answers with the wrong number of plans, or too long ones.
    """
    if isinstance(player, DecidingSearch):
        found = list(player.decide(samples, scorer))
        played = AgentRun([decision.plan for decision in found], [*found])
    elif isinstance(player, Search):
        played = AgentRun(list(player.search(samples, scorer)), [None] * len(samples))
    elif player.closed_loop:
        played = _closed_loop(player, samples, scorer, max_tools)
    else:
        decisions = list(player.act([observe(Episode(sample), max_tools) for sample in samples]))
        played = AgentRun([decision.plan for decision in decisions], [*decisions])
    if len(played.plans) != len(samples):
        raise AgentError(f"expected {len(samples)} plans, one per image, found {len(played.plans)}.")
    if longest := max((plan for plan in played.plans if len(plan) > max_tools), key=len, default=()):
        raise AgentError(f"a plan of {len(longest)} tools, but at most {max_tools} are allowed: {longest}.")
    return played


def _closed_loop(agent: Agent, samples: Sequence[Sample], scorer: Scorer, max_tools: int) -> AgentRun:
    """Asks again after each answer, until it is empty or the steps have run out."""
    episodes = [Episode(sample) for sample in samples]
    while going := [episode for episode in episodes if not episode.done]:
        decisions = agent.act([observe(episode, max_tools) for episode in going])
        for episode, decision in zip(going, decisions, strict=True):
            episode.plan = (*episode.plan, *decision.plan)[:max_tools]
            episode.done = not decision.plan or len(episode.plan) == max_tools
        going = [episode for episode in going if not episode.done]
        outcomes = scorer.score([e.sample for e in going], [e.plan for e in going])
        for episode, outcome in zip(going, outcomes, strict=True):
            episode.outcome = outcome
    return AgentRun([episode.plan for episode in episodes], [None] * len(episodes))


def label_free_scorer(scorer: PlanScorer) -> PlanScorer:
    """Returns a scorer over the same tools that needs no reference."""
    return PlanScorer(scorer.toolbox, "label_free", cache=scorer.executor.cache)
