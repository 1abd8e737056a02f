"""The tab in which two agents restore the same degraded photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from opera_env.data.images import to_pil
from opera_env.degradations import DEGRADATIONS
from opera_env.demo.contest import Entry, degrade_photograph, hold_contest
from opera_env.demo.widgets import (
    chips,
    menu_of_agents,
    read_seed,
    result_image,
    seed_field,
    shown,
)
from opera_env.demo.workshop import Workshop
from opera_env.errors import SettingError
from opera_env.tools.toolbox import shipped_toolboxes


def add_contest_tab(workshop: Workshop, examples: Sequence[Path]) -> None:
    """Adds the components and what they do.

    Args:
        workshop: Has the toolboxes.
        examples: Clean photographs to try.
    """
    agents = menu_of_agents(True)
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            photograph = gr.Image(
                type="filepath", label="Clean photograph", sources=["upload", "clipboard"]
            )
            gr.Examples([str(path) for path in examples], photograph, label="Examples")
            recipe = gr.Dropdown(
                list(DEGRADATIONS),
                value=["rain", "noise"],
                multiselect=True,
                label="Recipe",
                info="Degradations in the order in which they happen.",
            )
            seed = seed_field("Seed")
            first = gr.Dropdown(agents, value="planner", label="First agent")
            second = gr.Dropdown(agents, value="detect", label="Second agent")
            toolbox = gr.Dropdown(list(shipped_toolboxes()), value="lite", label="Toolbox")
            button = gr.Button("Degrade and restore", variant="primary")
        with gr.Column(scale=2, min_width=320):
            with gr.Row():
                degraded, clean = result_image("Degraded"), result_image("Clean")
            with gr.Row():
                images = [result_image("First agent"), result_image("Second agent")]
            plans = [gr.HTML(), gr.HTML()]
            table = gr.Markdown()

    @shown
    def compete(
        path: str | None, recipe: list[str], seed: float | None, first: str, second: str, toolbox: str
    ) -> list[Any]:
        if path is None:
            raise SettingError("photograph", "", "a clean photograph: drop one, or take an example")
        workshop.open(path)  # checks its size
        sample = degrade_photograph(path, recipe, read_seed(seed))
        with workshop.turn():
            tools = workshop.toolbox(toolbox)
            before, entries = hold_contest(sample, [first, second], tools, workshop.max_tools)
        assert sample.reference is not None
        return [
            to_pil(before.image),
            to_pil(sample.reference),
            *(gr.Image(to_pil(entry.image), label=entry.agent) for entry in entries),
            *(chips(entry.plan, entry.agent) for entry in entries),
            format_table([before, *entries]),
        ]

    inputs = [photograph, recipe, seed, first, second, toolbox]
    button.click(compete, inputs, [degraded, clean, *images, *plans, table], api_visibility="private")


def format_table(entries: Sequence[Entry]) -> str:
    """Returns R_q, the metrics and the seconds of entries as a table in Markdown; the best R_q is bold."""
    names = list(entries[0].metrics)
    best = max(entry.r_q for entry in entries)
    header = ["agent", "R_q", *names, "seconds"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for entry in entries:
        r_q = f"**{entry.r_q:.2f}**" if entry.r_q == best else f"{entry.r_q:.2f}"
        cells = [
            entry.agent,
            r_q,
            *(f"{entry.metrics[name]:.3f}" for name in names),
            f"{entry.seconds:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
