"""Target answers of the warm start: they teach the format alone, or the labels as well."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from opera_agents.common.plausible_plans import plausible_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Plan

# The shipped tiny model and its tokenizer were trained on these texts: another text needs a new training.
_DEGRADATION_TEMPLATES = (
    "I see {}.",
    "The photograph has {}.",
    "It suffers from {}.",
    "What is wrong is {}.",
)
_TOOL_TEMPLATES = (
    "For {degradation} I take {tool}.",
    "{tool} takes care of the {degradation}.",
    "Against {degradation} there is {tool}.",
)
_EXTRA_TOOL_TEMPLATES = ("{tool} cleans up what is left.", "I add {tool}.", "{tool} helps as well.")
_CLEAN_SENTENCES = (
    "Nothing is wrong with it.",
    "It is clean.",
    "I see no damage, so nothing is to be done.",
)


def labelled_answer(
    toolbox: Toolbox,
    degradations: frozenset[str],
    rng: Generator,
    max_tools: int = 6,
    labels: Sequence[str] = DEGRADATIONS,
    plan: Plan | None = None,
) -> Decision:
    """Draws an answer that names the true degradations, with a plan and matching reasoning.

    Args:
        toolbox: The tools that the plan may contain.
        degradations: The true degradations.
        rng: Source of all randomness.
        max_tools: Maximum number of tools in a plan.
        labels: All degradations that answers can name, in the order in which recipes apply them.
        plan: The plan; None draws a plausible one for the degradations.

    Raises:
        AgentError: If a degradation is none of the labels.
    """
    unknown = degradations.difference(labels)
    if unknown:
        raise AgentError(
            f"answers can name {', '.join(labels)}, found {', '.join(sorted(unknown))}: pass the labels of "
            "the data source."
        )
    if plan is None:
        plan = plausible_plan(toolbox, degradations, rng, max_tools, labels=labels)
    if not degradations and not plan:
        return Decision(plan, degradations, _name_degradations([], rng))
    sentences = [_name_degradations([name for name in labels if name in degradations], rng)]
    for name in plan:
        reasons = sorted(toolbox[name].degradations & degradations)
        if reasons:
            template = str(rng.choice(_TOOL_TEMPLATES))
            sentences.append(template.format(degradation=_readable(reasons[0]), tool=name))
        else:
            sentences.append(str(rng.choice(_EXTRA_TOOL_TEMPLATES)).format(tool=name))
    return Decision(plan, degradations, " ".join(sentences))


def random_answer(
    toolbox: Toolbox, rng: Generator, max_tools: int = 6, labels: Sequence[str] = DEGRADATIONS
) -> Decision:
    """Draws a well-formed answer that is independent of the photograph, which teaches the format alone."""
    count = int(rng.integers(0, 4))
    degradations = frozenset(str(name) for name in rng.choice(list(labels), count, replace=False))
    return labelled_answer(toolbox, degradations, rng, max_tools, labels)


def _name_degradations(degradations: Sequence[str], rng: Generator) -> str:
    """Draws a sentence that names the degradations of a photograph."""
    if not degradations:
        return str(rng.choice(_CLEAN_SENTENCES))
    *others, last = map(_readable, degradations)
    listed = f"{', '.join(others)} and {last}" if others else last
    return str(rng.choice(_DEGRADATION_TEMPLATES)).format(listed)


def _readable(name: str) -> str:
    return name.replace("_", " ")
