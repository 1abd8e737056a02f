"""The tab in which a person plays the stepwise environment."""

from __future__ import annotations

from typing import Any

import gradio as gr

from opera_env.data.images import to_pil
from opera_env.demo.game import Game, Position
from opera_env.demo.widgets import chips, read_seed, seed_field, shown
from opera_env.demo.workshop import Workshop


def add_game_tab(workshop: Workshop) -> None:
    """Adds the components and what they do.

    Args:
        workshop: Has the toolboxes.
    """
    game = Game(workshop.toolbox("lite"), workshop.max_tools)
    state = gr.State(None, time_to_live=1800)
    gr.Markdown("Choose tools one at a time, as the stepwise environment does, and beat the planner.")
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            seed = seed_field("Image")
            new = gr.Button("New image", variant="primary")
            tool = gr.Dropdown(list(game.toolbox.names), label="Tool")
            with gr.Row():
                names = ("Apply", "Undo", "Finish")
                apply, undo, finish = (gr.Button(name, min_width=90) for name in names)
            plan = gr.HTML()
            board = gr.Markdown()
        with gr.Column(scale=2, min_width=320):
            slider = gr.ImageSlider(type="pil", label="Degraded and now", interactive=False)
            ending = gr.ImageSlider(type="pil", label="Planner and clean", interactive=False, visible=False)

    def show(position: Position) -> list[Any]:
        return [
            position,
            (to_pil(position.images[0]), to_pil(position.images[-1])),
            chips(position.plan),
            "R_q: " + " → ".join(f"{score:.2f}" for score in position.scores),
            gr.ImageSlider(visible=False),
        ]

    @shown
    def play(position: Position | None, tool: str | None) -> list[Any]:
        if position is None or tool is None:
            return [gr.skip()] * 5
        with workshop.turn():
            return show(game.play(position, tool))

    @shown
    def start(seed: float | None) -> list[Any]:
        with workshop.turn():
            return show(game.start(read_seed(seed)))

    def take_back(position: Position | None) -> list[Any]:
        return [gr.skip()] * 5 if position is None else show(game.undo(position))

    @shown
    def end(position: Position | None) -> list[Any]:
        if position is None:
            return [gr.skip()] * 5
        with workshop.turn():
            result = game.finish(position)
        values = show(position)
        assert position.sample.reference is not None
        labels = ", ".join(sorted(position.sample.degradations or ()))
        values[3] += (
            f"\n\nThe degradations were {labels}.\n\n"
            f"Regret: **{result.regret:.2f}** to {' → '.join(result.best_plan) or 'no tool'}.\n\n"
            f"The planner: **{result.planner_score:.2f}** with "
            f"{' → '.join(result.planner_plan) or 'no tool'}."
        )
        pair = to_pil(result.planner_image), to_pil(position.sample.reference)
        values[4] = gr.ImageSlider(pair, visible=True)
        return values

    outputs = [state, slider, plan, board, ending]
    new.click(start, [seed], outputs, api_visibility="private")
    apply.click(play, [state, tool], outputs, api_visibility="private")
    undo.click(take_back, [state], outputs, api_visibility="private")
    finish.click(end, [state], outputs, api_visibility="private")
