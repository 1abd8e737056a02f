"""The page: three tabs for people and one for chat agents, built of gradio's components."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np

from opera_env.data import bundled
from opera_env.data.images import to_array, write_image
from opera_env.data.sources.synthetic import bundled_paths
from opera_env.demo.agents_tab import add_agents_tab
from opera_env.demo.contest_tab import add_contest_tab
from opera_env.demo.game_tab import add_game_tab
from opera_env.demo.restore_tab import add_restore_tab
from opera_env.demo.sessions import Sessions
from opera_env.demo.workshop import Workshop

_EXAMPLES = (("rain", "haze"), ("noise", "jpeg"), ("low_light", "noise"))
_CLEAN_EXAMPLES = ("coffee.png", "chelsea.png", "rocket.jpg")


def build_page(workshop: Workshop, folder: Path) -> gr.Blocks:
    """Builds the page.

    Args:
        workshop: Restores the photographs.
        folder: Folder of examples and of files to download, which the caller removes.
    """
    examples = _write_examples(folder)
    clean = [path for path in bundled_paths() if path.name in _CLEAN_EXAMPLES]
    # Files that gradio keeps are looked through every five minutes, and removed after half an hour.
    with gr.Blocks(title="opera-env", analytics_enabled=False, delete_cache=(300, 1800)) as page:
        gr.Markdown(
            "# opera-env\nA photograph is degraded; an agent writes a plan of restoration tools, which run."
        )
        with gr.Tab("Restore"):
            add_restore_tab(workshop, folder, examples)
        with gr.Tab("Two agents"):
            add_contest_tab(workshop, clean)
        with gr.Tab("Play"):
            add_game_tab(workshop)
        with gr.Tab("Chat agents"):
            add_agents_tab(Sessions(workshop))
    return page


def _write_examples(folder: Path) -> list[Path]:
    """Writes degraded crops of the bundled photographs."""
    source = bundled(canvas=256)
    paths: list[Path] = []
    for index, recipe in enumerate(_EXAMPLES):
        spec = source.list_specs(index + 1, [recipe], np.random.default_rng(index))[index]
        paths.append(folder / f"{'-'.join(recipe)}.png")
        write_image(paths[-1], to_array(source.make(spec).lq))
    return paths
