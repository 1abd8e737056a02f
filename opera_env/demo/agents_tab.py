"""The tab of chat agents: its four actions are the tools of the MCP server."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
from PIL import Image

from opera_env.demo.sessions import Sessions
from opera_env.demo.widgets import result_image, shown


def add_agents_tab(sessions: Sessions) -> None:
    """Adds the components and what they do; the names of the functions are those of the MCP tools.

    Args:
        sessions: Keeps the photographs that are being worked on.
    """
    gr.Markdown(
        "A chat agent restores photographs by these actions, as tools of the MCP server at "
        "`/gradio_api/mcp/`. Here they can be tried by hand."
    )
    with gr.Row():
        with gr.Column(min_width=320):
            path = gr.Image(type="filepath", label="Photograph", sources=["upload"])
            photograph = gr.Textbox(label="Name of an opened photograph")
            plan = gr.Textbox(label="Plan", placeholder="unet.dejpeg, unet.denoise")
            with gr.Row():
                names = ("Inspect", "Restore", "Apply the plan", "Undo")
                buttons = [gr.Button(name, min_width=110) for name in names]
        with gr.Column(min_width=320):
            answer = gr.Textbox(label="Answer", lines=8)
            image = result_image("Result")

    @shown
    def inspect(path: str) -> str:
        """Look at a photograph: its degradations, the plan that the planner suggests, and the tools.

        Args:
            path: The photograph.
        """
        return json.dumps(sessions.inspect(path), indent=1)

    @shown
    def restore(path: str) -> tuple[str, Image.Image]:
        """Restore a photograph with the planner. Scores are from 0 to 10, higher is better.

        Args:
            path: The photograph.
        """
        return _as_text(sessions.restore(path))

    @shown
    def apply_plan(photograph: str, plan: str) -> tuple[str, Image.Image]:
        """Apply restoration tools, in order, to a photograph as it was opened, in place of earlier plans.

        Args:
            photograph: Name of the photograph, from inspect or restore.
            plan: Names of tools, separated by commas, from the list that inspect returns.
        """
        names = [name.strip() for name in plan.split(",") if name.strip()]
        return _as_text(sessions.apply_plan(photograph, names))

    @shown
    def undo(photograph: str) -> tuple[str, Image.Image]:
        """Return to the result before the last one.

        Args:
            photograph: Name of the photograph, from inspect or restore.
        """
        return _as_text(sessions.undo(photograph))

    # Without gradio's queue, which would return the answer and the image as one text; the workshop restores
    # one photograph at a time anyway.
    inspecting, restoring, applying, undoing = buttons
    inspecting.click(inspect, [path], [answer], api_name="inspect", queue=False)
    restoring.click(restore, [path], [answer, image], api_name="restore", queue=False)
    applying.click(apply_plan, [photograph, plan], [answer, image], api_name="apply_plan", queue=False)
    undoing.click(undo, [photograph], [answer, image], api_name="undo", queue=False)


def _as_text(result: tuple[dict[str, Any], Image.Image]) -> tuple[str, Image.Image]:
    """Returns an answer as JSON text, which chat agents read, with its image."""
    return json.dumps(result[0], indent=1), result[1]
