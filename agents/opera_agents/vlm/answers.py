"""Target answers of the warm start: they teach the format alone, or the labels as well."""

from __future__ import annotations

from numpy.random import Generator

from opera_agents.common.plausible_plans import plausible_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError
from opera_env.tools import Toolbox
from opera_env.types import Decision

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
    toolbox: Toolbox, degradations: frozenset[str], rng: Generator, max_tools: int = 6
) -> Decision:
    """Draws an answer that names the true degradations, with a plausible plan and matching reasoning.

    Args:
        toolbox: The tools that the plan may contain.
        degradations: The true degradations.
        rng: Source of all randomness.
        max_tools: Length of the longest plan.

    Raises:
        AgentError: If a degradation is not one of the eight that answers can name.
    """
    unknown = degradations.difference(DEGRADATIONS)
    if unknown:
        raise AgentError(
            f"answers can name {', '.join(DEGRADATIONS)}, found {', '.join(sorted(unknown))}: train the "
            "vision-language model on photographs with these degradations only."
        )
    plan = plausible_plan(toolbox, degradations, rng, max_tools)
    if not degradations:
        return Decision(plan, degradations, str(rng.choice(_CLEAN_SENTENCES)))
    *others, last = [_readable(name) for name in DEGRADATIONS if name in degradations]
    listed = f"{', '.join(others)} and {last}" if others else last
    sentences = [str(rng.choice(_DEGRADATION_TEMPLATES)).format(listed)]
    for name in plan:
        reasons = sorted(toolbox[name].degradations & degradations)
        if reasons:
            template = str(rng.choice(_TOOL_TEMPLATES))
            sentences.append(template.format(degradation=_readable(reasons[0]), tool=name))
        else:
            sentences.append(str(rng.choice(_EXTRA_TOOL_TEMPLATES)).format(tool=name))
    return Decision(plan, degradations, " ".join(sentences))


def random_answer(toolbox: Toolbox, rng: Generator, max_tools: int = 6) -> Decision:
    """Draws a well-formed answer that is independent of the photograph, which teaches the format alone."""
    count = int(rng.integers(0, 4))
    degradations = frozenset(str(name) for name in rng.choice(DEGRADATIONS, count, replace=False))
    return labelled_answer(toolbox, degradations, rng, max_tools)


def _readable(name: str) -> str:
    return name.replace("_", " ")
