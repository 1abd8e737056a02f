"""The registry of agents, and the function that runs an agent on samples."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from opera_env.envs.observation import Episode, observe, take_turn
from opera_env.errors import AgentError, PlanParseError, UnknownPresetError, wrap_errors
from opera_env.imports import import_attribute
from opera_env.scoring import PlanScorer
from opera_env.types import (
    Agent,
    DecidingSearch,
    Decision,
    Observation,
    Plan,
    Sample,
    Scorer,
    Search,
    TokenCount,
    Turn,
    sum_tokens,
)

ENTRY_POINT_GROUP = "opera_env.agents"
BLIND_SUFFIX = "-blind"
"""Suffix of the name of a search that runs without reference and labels, with a label-free scorer."""

_AFTER_COLON = ("path", "tool", "profile")
"""Parameters of installed agents that take what follows the colon in their name."""


def agent_names() -> tuple[str, ...]:
    """Returns the names of the installed agents."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def make_agent(name: str, **options: Any) -> Agent | Search:
    """Makes an agent or a search by name.

    Args:
        name: The name of an installed agent (see :func:`agent_names`); ``name:path`` for an installed agent
            that is loaded from a file or folder; ``single:TOOL`` for the agent that plans one tool;
            ``name:profile`` for one with several profiles, such as ``4kagent:perception``;
            ``api:MODEL@URL``; or ``module:attribute`` for any importable class or function that returns
            an agent, or for an agent.
        **options: Arguments for the agent: ``toolbox``, ``max_tools``, ``seed``, ``tool_cost``,
            ``num_plans``, ``budget`` (tools that may run for one image), ``labels`` (names of the source's
            degradations, in the order in which recipes apply them). Options that its signature does not
            name are left out.

    Raises:
        UnknownPresetError: If there is no agent of that name.
        AgentError: If the attribute cannot be imported or called, if it returns neither an agent nor a
            search, or if a path or tool is given to an agent that takes none.
    """
    module, _, attribute = name.partition(":")
    installed = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == module]
    if not installed and not attribute:
        raise UnknownPresetError("agent", name, (*agent_names(), "module:attribute"))
    if installed:
        factory = installed[0].load()
        options |= dict.fromkeys(_AFTER_COLON, attribute) if attribute else {}
    else:
        factory = _import(name)
        if isinstance(factory, Agent | Search) and not isinstance(factory, type):
            return factory
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise AgentError(f"agent {name!r} is {factory!r}: expected a class or function.") from error
    if installed and attribute and not set(_AFTER_COLON) & set(parameters):
        raise AgentError(f"agent {module!r} takes no path or tool, found {name!r}: use {module!r} alone.")
    passed = {key: value for key, value in options.items() if key in parameters}
    with wrap_errors(AgentError, f"agent {name!r}, made with {', '.join(passed) or 'no arguments'},"):
        agent = factory(**passed)
    if not isinstance(agent, Agent | Search):
        raise AgentError(
            f"agent {name!r} is a {type(agent).__name__}: expected act(observations) and closed_loop, or "
            "search(samples, scorer), as in opera_env.types."
        )
    return agent


def _import(name: str) -> Callable[..., Any]:
    try:
        return import_attribute(name)
    except (ImportError, AttributeError) as error:
        raise AgentError(f"agent {name!r} cannot be imported: {error}") from error


@dataclass(frozen=True)
class AgentRun:
    """The plans of an agent for some samples.

    Attributes:
        plans: One plan per sample.
        decisions: One decision per sample of an open-loop agent or a :class:`DecidingSearch`; None for
            other searches. For a closed-loop agent it has the whole plan, the degradations that were named
            last, the error if an answer could not be parsed, and the tokens of all turns; None if there is
            none of these.
    """

    plans: list[Plan]
    decisions: list[Decision | None] = field(default_factory=list)


def run_agent(agent: Agent | Search, samples: Sequence[Sample], scorer: Scorer, max_tools: int) -> AgentRun:
    """Runs an agent or a search on samples and returns its plans.

    Args:
        agent: The agent or search.
        samples: The samples. Pass ``sample.blind()`` to hide references and labels from a search.
        scorer: Scores the plans of a search, and restores the images that a closed-loop agent observes.
        max_tools: Maximum number of tools in a plan.

    Raises:
        AgentError: If an agent raises, if it returns anything but decisions, if the number of plans is not
            the number of samples, or if a plan has too many tools or one that the scorer does not know.
    """
    if isinstance(agent, Search):
        run = _run_search(agent, samples, scorer)
    elif agent.closed_loop:
        run = _run_closed_loop(agent, samples, scorer, max_tools)
    else:
        decisions = act(agent, [observe(Episode(sample), max_tools) for sample in samples])
        run = AgentRun([decision.plan for decision in decisions], [*decisions])
    if longest := max((plan for plan in run.plans if len(plan) > max_tools), key=len, default=()):
        raise AgentError(
            f"expected plans of at most {max_tools} tools, found one of {len(longest)}: {longest}."
        )
    _check_names(agent, run.plans, scorer)
    return run


def act(agent: Agent, observations: Sequence[Observation]) -> list[Decision]:
    """Calls an agent once.

    Args:
        agent: The agent.
        observations: What it observes.

    Returns:
        One decision per observation.

    Raises:
        AgentError: If it raises, or returns anything but one decision per observation.
    """
    return _call(agent, "act", "observations", len(observations), observations, check=_check_decision)


def _run_search(search: Search, samples: Sequence[Sample], scorer: Scorer) -> AgentRun:
    count = len(samples)
    if isinstance(search, DecidingSearch):
        decisions = _call(
            search, "decide", "samples, scorer", count, samples, scorer, check=_check_decision
        )
        return AgentRun([decision.plan for decision in decisions], [*decisions])
    plans = _call(search, "search", "samples, scorer", count, samples, scorer, check=_check_plan)
    return AgentRun(plans, [None] * count)


def _call(
    agent: Agent | Search,
    method: str,
    parameters: str,
    count: int,
    *arguments: Any,
    check: Callable[[str, Any], None],
) -> list[Any]:
    """Calls a method of an agent and checks that it returns ``count`` usable items.

    Raises:
        AgentError: If it raises anything but an error of this package, or returns something else.
    """
    call = f"{_class_name(agent)}.{method}({parameters})"
    with wrap_errors(AgentError, call):
        returned = getattr(agent, method)(*arguments)
        items = list(returned) if isinstance(returned, Iterable) else None
    if items is None or isinstance(returned, str | bytes | Mapping):
        raise AgentError(f"expected {call} to return a list, found {_shorten(returned)}.")
    for item in items:
        check(call, item)
    if len(items) != count:
        raise AgentError(f"expected {count} plans, one per image, of {call}, found {len(items)}.")
    return items


def _check_decision(call: str, decision: Any) -> None:
    if not isinstance(decision, Decision):
        raise AgentError(
            f"expected {call} to return objects of opera_env.types.Decision, found {_shorten(decision)}."
        )
    _check_plan(call, decision.plan)


def _check_plan(call: str, plan: Any) -> None:
    if not isinstance(plan, tuple) or not all(isinstance(name, str) for name in plan):
        raise AgentError(
            f"expected each plan of {call} to be a tuple of names of tools, such as ('denoise',) or (), "
            f"found {_shorten(plan)}."
        )


def _check_names(agent: Agent | Search, plans: Iterable[Plan], scorer: Scorer) -> None:
    """Raises :class:`AgentError` if a plan has a tool that the scorer does not know."""
    if unknown := [name for plan in plans for name in plan if name not in scorer.tool_names]:
        raise AgentError(
            f"{_class_name(agent)} chose the unknown tool {unknown[0]!r}: expected "
            f"{', '.join(scorer.tool_names) or 'no tools'}."
        )


def _class_name(agent: Agent | Search) -> str:
    return f"{type(agent).__module__}.{type(agent).__qualname__}"


def _shorten(value: Any) -> str:
    """Returns what a value is in a few words, also for images and long lists."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return reprlib.repr(value)


def _run_closed_loop(agent: Agent, samples: Sequence[Sample], scorer: Scorer, max_tools: int) -> AgentRun:
    """Calls the agent after each of its tools, until it returns the empty plan or no steps are left."""
    uses_history = getattr(agent, "uses_history", False)
    episodes = [Episode(sample) for sample in samples]
    errors: dict[int, PlanParseError] = {}
    named: dict[int, frozenset[str]] = {}
    tokens: dict[int, TokenCount | None] = {}
    while active := [episode for episode in episodes if not episode.done]:
        observations = [observe(episode, max_tools) for episode in active]
        decisions = act(agent, observations)
        for episode, observation, decision in zip(active, observations, decisions, strict=True):
            take_turn(episode, decision, max_tools)
            if uses_history:
                episode.history = (*episode.history, Turn(observation.image, decision))
            if decision.error is not None:
                errors[id(episode)] = decision.error
            if decision.degradations is not None:
                named[id(episode)] = decision.degradations
            tokens[id(episode)] = sum_tokens([tokens.get(id(episode)), decision.tokens])
        active = [episode for episode in active if not episode.done]
        _check_names(agent, [episode.plan for episode in active], scorer)
        outcomes = scorer.score([e.sample for e in active], [e.plan for e in active])
        for episode, outcome in zip(active, outcomes, strict=True):
            episode.outcome = outcome
    said: list[Decision | None] = []
    for episode in episodes:
        key = id(episode)
        says_something = key in errors or key in named or tokens.get(key) is not None
        whole = Decision(episode.plan, named.get(key), error=errors.get(key), tokens=tokens.get(key))
        said.append(whole if says_something else None)
    return AgentRun([episode.plan for episode in episodes], said)


def label_free_scorer(scorer: PlanScorer) -> PlanScorer:
    """Returns a scorer with the same tools whose reward needs neither a reference nor labels."""
    return PlanScorer(scorer.toolbox, "label_free", cache=scorer.executor.cache)
