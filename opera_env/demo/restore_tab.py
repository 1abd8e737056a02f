"""The tab that restores a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from threading import Timer
from typing import Any

import gradio as gr

from opera_env.data.images import to_pil
from opera_env.demo.reference import compare_with_reference
from opera_env.demo.widgets import chips, menu_of_agents, shown
from opera_env.demo.workshop import Restored, Workshop, with_variant
from opera_env.errors import SettingError
from opera_env.restoration import DEFAULT_AGENT, DEFAULT_TOOLBOX
from opera_env.tools.toolbox import shipped_toolboxes

_SECONDS_OF_RESULTS = 60.0
"""Seconds for which the file of a result is kept before the page has copied it."""


def add_restore_tab(workshop: Workshop, results: Path, examples: Sequence[Path]) -> None:
    """Adds the components and what they do.

    Args:
        workshop: Restores the photographs.
        results: Folder of the files that can be downloaded.
        examples: Photographs to try.
    """
    state = gr.State(None, time_to_live=1800)
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            photograph = gr.Image(
                type="filepath",
                label="Photograph",
                sources=["upload", "clipboard"],
                elem_id="photograph",
            )
            gr.Examples([str(path) for path in examples], photograph, label="Examples", elem_id="examples")
            agent = gr.Dropdown(menu_of_agents(False), value=DEFAULT_AGENT, label="Agent")
            toolbox = gr.Dropdown(list(shipped_toolboxes()), value=DEFAULT_TOOLBOX, label="Toolbox")
            plan = gr.Dropdown(
                list(workshop.toolbox(DEFAULT_TOOLBOX).names),
                multiselect=True,
                label="Plan",
                info="Leave empty to let the agent plan; a tool may be chosen once here.",
            )
            with gr.Accordion("Reference", open=False):
                reference = gr.Image(type="filepath", label="Clean original", sources=["upload"])
            button = gr.Button("Restore", variant="primary", elem_id="restore")
        with gr.Column(scale=2, min_width=320):
            slider = gr.ImageSlider(
                type="pil", label="Before and after", interactive=False, elem_id="before-after"
            )
            step = gr.Slider(
                0, 1, value=1, step=1, label="Tools applied", visible=False, elem_id="tools-applied"
            )
            plan_chips = gr.HTML(label="Plan", elem_id="plan")
            report = gr.Markdown(elem_id="report")
            download = gr.DownloadButton("Download, with the metadata of the photograph", visible=False)
            probabilities = gr.Label(
                label="Degradations that the agent sees", num_top_classes=8, show_heading=False
            )
            variants = gr.Gallery(
                label="Other plans: choose one",
                columns=3,
                height="auto",
                visible=False,
                elem_id="variants",
            )

    def show(restored: Restored) -> list[Any]:
        """Returns the values of all outputs."""
        path = restored.write(temporary_folder(results), "photograph")
        count = len(restored.images) - 1
        gallery = [(to_pil(image), _caption(plan, score)) for plan, score, image in restored.variants]
        return [
            restored,
            _pair(restored, count),
            gr.Slider(maximum=max(count, 1), value=count, visible=count > 1),
            chips(restored.plan),
            _report(restored),
            dict(restored.decision.probabilities or {}),
            gr.Gallery(gallery, visible=bool(gallery)),
            gr.DownloadButton(value=str(path), visible=True),
        ]

    @shown
    def restore(
        path: str | None, agent: str, toolbox: str, plan: list[str] | None, reference: str | None
    ) -> list[Any]:
        if path is None:
            raise SettingError("photograph", "", "a photograph: drop one, or take an example")
        restored = workshop.restore(workshop.open(path), agent, toolbox, plan or None)
        values = show(restored)
        if reference is not None:
            values[4] += compare_with_reference(restored, workshop.open(reference))
        return values

    def choose(restored: Restored | None, event: gr.SelectData) -> list[Any]:
        if restored is None:
            return [gr.skip()] * 8
        return show(with_variant(restored, event.index))

    def show_step(restored: Restored | None, count: float) -> Any:
        return gr.skip() if restored is None else _pair(restored, int(count))

    outputs = [state, slider, step, plan_chips, report, probabilities, variants, download]
    inputs = [photograph, agent, toolbox, plan, reference]
    button.click(restore, inputs, outputs, api_visibility="private")
    variants.select(choose, [state], outputs, api_visibility="private")
    step.release(show_step, [state, step], [slider], api_visibility="private")
    toolbox.change(
        lambda name: gr.Dropdown(list(workshop.toolbox(name).names), value=[]),
        [toolbox],
        [plan],
        api_visibility="private",
    )


def temporary_folder(parent: Path) -> Path:
    """Returns a new folder that is removed after a minute; the page has a copy of its own of each file."""
    folder = Path(mkdtemp(dir=parent))
    remover = Timer(_SECONDS_OF_RESULTS, rmtree, [folder], {"ignore_errors": True})
    remover.daemon = True
    remover.start()
    return folder


def _pair(restored: Restored, count: int) -> tuple[Any, Any]:
    index = min(count, len(restored.images) - 1)
    return to_pil(restored.images[0]), to_pil(restored.images[index])


def _caption(plan: Sequence[str], score: float) -> str:
    return f"{score:.2f}: {' → '.join(plan)}"


def _report(restored: Restored) -> str:
    lines = [
        f"Critic: **{restored.scores[0]:.2f}** before, **{restored.scores[-1]:.2f}** after, of 10. "
        f"Planning {restored.planning_seconds:.1f} s, tools {restored.tool_seconds:.1f} s."
    ]
    lines += [f"Why: {restored.reason}."] if restored.reason else []
    lines += [f"> {restored.decision.reasoning}"] if restored.decision.reasoning else []
    return "\n\n".join(lines)
