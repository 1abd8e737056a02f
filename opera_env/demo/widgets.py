"""What the tabs share: names of agents, chips of plans, and errors as messages on the page."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import gradio as gr

from opera_env.agents import agent_names
from opera_env.console import escape_controls
from opera_env.errors import OperaError, SettingError

Function = TypeVar("Function", bound=Callable[..., Any])

PREFERRED_AGENTS = (
    "planner:lite-cotrained",
    "planner",
    "detect",
    "vlm",
    "ppo",
    "greedy",
    "matched",
    "fixed_order",
    "random",
    "untouched",
)
"""Agents in the order of the menu; those that are not installed are left out."""

CSS = """
.chips { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; min-height: 2rem; }
.chip { border: 1px solid var(--border-color-primary); border-radius: 1rem; padding: .15rem .7rem;
  background: var(--block-background-fill); font-family: monospace; font-size: .85rem; }
#variants .grid-wrap, #variants .grid-container { min-height: 0; }
footer { display: none !important; }
"""


def menu_of_agents(needs_labels: bool) -> list[str]:
    """Returns names of agents for a menu.

    Args:
        needs_labels: Whether ``matched`` is among them, which is given the degradations.
    """
    installed = agent_names()
    return [
        name
        for name in PREFERRED_AGENTS
        if name.partition(":")[0] in installed and (needs_labels or name != "matched")
    ]


def chips(plan: Sequence[str], title: str = "") -> str:
    """Returns a plan as HTML: a chip for each tool.

    Args:
        plan: Names of tools.
        title: Text before them, such as the name of an agent.
    """
    names = [f'<span class="chip">{html.escape(name)}</span>' for name in plan]
    begin = f"<b>{html.escape(title)}</b>" if title else ""
    return f'<div class="chips">{begin}{" → ".join(names) or "no tool"}</div>'


def result_image(label: str) -> gr.Image:
    """Returns a component that shows an image, without gradio's button that posts it elsewhere."""
    return gr.Image(type="pil", label=label, interactive=False, buttons=["download", "fullscreen"])


def seed_field(label: str) -> gr.Number:
    """Returns a field for a seed."""
    return gr.Number(0, precision=0, minimum=0, label=label)


def read_seed(value: float | None) -> int:
    """Returns the seed in a field.

    Raises:
        SettingError: If it is empty or negative.
    """
    if value is None or value < 0:
        raise SettingError("seed", "" if value is None else int(value), "a whole number from 0 on")
    return int(value)


def shown(function: Function) -> Function:
    """Turns errors of the package into messages on the page, and into errors of the MCP tool."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (OperaError, OSError) as error:
            raise gr.Error(escape_controls(str(error)), print_exception=False) from error

    return wrapped  # type: ignore[return-value]
