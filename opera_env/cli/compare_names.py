"""Which agents ``opera-env compare`` compares."""

from __future__ import annotations

from opera_env.agents import BLIND_SUFFIX, make_agent
from opera_env.console import Console
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError, UnknownPresetError
from opera_env.tools import Toolbox

DEFAULT_AGENTS = (
    "untouched",
    "random",
    "fixed_order",
    "detect",
    "matched",
    "recipe_best",
    "planner",
    "ppo",
    "greedy-blind",
    "greedy",
)
"""The agents that are compared if none are named."""

SLOW_AGENTS = ("beam", "exhaustive")
"""These take minutes; ``--agents all`` adds them to the others."""

NEEDS_LABELS = ("matched", "recipe_best")
"""These are given the degradations of a sample."""

NEEDS_LITE_TOOLBOX = ("recipe_best", "planner", "ppo")
"""These were trained for the tools that come with the package."""

LITERATURE_AGENTS = (
    "agenticir-blind",
    "restoreagent-blind",
    "qagent-blind",
    "mair-blind",
    "4kagent-blind",
    "4kagent:perception-blind",
    "mcts-blind",
    "simplecall",
    "rl_restore",
    "llm",
)
"""The agents of the literature; ``--agents literature`` stands for those that can be made."""

_ALL, _LITERATURE = "all", "literature"


def choose_agents(
    names: str | None, toolbox_name: str, has_labels: bool, toolbox: Toolbox, console: Console
) -> list[str]:
    """Returns the names of the agents that are compared, each once.

    Args:
        names: Names separated by commas; "all" stands for the default and the slow agents, "literature"
            for the agents of the literature that can be made. None for the default agents.
        toolbox_name: The toolbox as it was named.
        has_labels: Whether the degradations of all samples are known. If not, default agents that need them
            are left out.
        toolbox: The tools. If they are not those of lite, default agents that need those are left out.
        console: Where it is said which agents are left out.
    """
    listed = [name for part in (names or "").split(",") if (name := part.strip())]
    if _LITERATURE in listed:
        found = _literature(toolbox, console)
        listed = [each for name in listed for each in (found if name == _LITERATURE else [name])]
    if names is not None and _ALL not in listed:
        return list(dict.fromkeys(listed))
    excluded: set[str] = set()
    if not has_labels:
        console.print(
            f"left out: {', '.join(NEEDS_LABELS)}; they need the degradations of the images, which are "
            "not known.",
            soft_wrap=True,
        )
        excluded.update(NEEDS_LABELS)
    if toolbox_name != "lite" and toolbox.signature != Toolbox.load("lite").signature:
        console.print(
            f"left out: {', '.join(NEEDS_LITE_TOOLBOX)}; they were made for the tools of lite.",
            soft_wrap=True,
        )
        excluded.update(NEEDS_LITE_TOOLBOX)
    group = DEFAULT_AGENTS if names is None else (*DEFAULT_AGENTS, *SLOW_AGENTS)
    suitable = [name for name in group if name not in excluded]
    if names is None:
        return suitable
    return list(dict.fromkeys(each for name in listed for each in (suitable if name == _ALL else [name])))


def _literature(toolbox: Toolbox, console: Console) -> list[str]:
    """Returns the agents of the literature that can be made, and says why the others cannot."""
    found: list[str] = []
    for name in LITERATURE_AGENTS:
        try:
            make_agent(name.removesuffix(BLIND_SUFFIX), toolbox=toolbox)
        except (AgentError, MissingWeightsError, ToolboxMismatchError, UnknownPresetError) as error:
            console.print(f"left out: {name}: {error}", soft_wrap=True, markup=False, highlight=False)
        else:
            found.append(name)
    return found
