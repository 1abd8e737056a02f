"""Answers that a model is shown before it is rewarded: the format alone, or the labels as well."""

from __future__ import annotations

from numpy.random import Generator

from opera_agents.common.plausible_plans import plausible_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Decision

_SEEN = ("I see {}.", "The photograph has {}.", "It suffers from {}.", "What is wrong is {}.")
_USED = (
    "For {damage} I take {tool}.",
    "{tool} takes care of the {damage}.",
    "Against {damage} there is {tool}.",
)
_MORE = ("{tool} cleans up what is left.", "I add {tool}.", "{tool} helps as well.")
_CLEAN = ("Nothing is wrong with it.", "It is clean.", "I see no damage, so nothing is to be done.")


def labelled_answer(
    toolbox: Toolbox, degradations: frozenset[str], rng: Generator, max_tools: int = 6
) -> Decision:
    """Draws an answer that is right about the degradations, with a plausible plan, and says why.

    Args:
        toolbox: What can be planned with.
        degradations: What is wrong.
        rng: The only source of chance.
        max_tools: Longest plan.
    """
    plan = plausible_plan(toolbox, degradations, rng, max_tools)
    if not degradations:
        return Decision(plan, degradations, str(rng.choice(_CLEAN)))
    *others, last = [_plain(name) for name in DEGRADATIONS if name in degradations]
    damages = f"{', '.join(others)} and {last}" if others else last
    words = [str(rng.choice(_SEEN)).format(damages)]
    for name in plan:
        reasons = sorted(toolbox[name].degradations & degradations)
        if reasons:
            words.append(str(rng.choice(_USED)).format(damage=_plain(reasons[0]), tool=name))
        else:
            words.append(str(rng.choice(_MORE)).format(tool=name))
    return Decision(plan, degradations, " ".join(words))


def random_answer(toolbox: Toolbox, rng: Generator, max_tools: int = 6) -> Decision:
    """Draws an answer that is well formed, and about some other photograph: it teaches the format alone."""
    count = int(rng.integers(0, 4))
    degradations = frozenset(str(name) for name in rng.choice(DEGRADATIONS, count, replace=False))
    return labelled_answer(toolbox, degradations, rng, max_tools)


def _plain(name: str) -> str:
    return name.replace("_", " ")
