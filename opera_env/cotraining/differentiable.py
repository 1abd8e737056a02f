"""Runs plans with gradients through all of their tools, in memory that hardly grows with their length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from opera_env.errors import ToolFailedError
from opera_env.tools import Tool, Toolbox
from opera_env.types import Canvas, Plan

Checkpointing = Literal["auto", "always", "never"]
"""Whether what happens inside a tool is computed again for its gradients instead of being kept.
"auto" keeps it for the tools that run last, whose gradients come first: a plan of one tool costs what it
always did, and a longer one needs little more memory than that."""


@dataclass(eq=False)
class _ToolStep:
    """One tool on a batch of images, with gradients once it has been run for them.

    Attributes:
        tool: Which.
        canvas: Of the images.
        rows: The plans that the images belong to.
        inputs: What it is given, float32 (B, 3, h, w), cut off from the tools before it.
        step: Its place in these plans.
        output: Its results, with the graph behind them; None if they are to be computed again.
    """

    tool: Tool
    canvas: Canvas
    rows: list[int]
    inputs: Tensor
    step: int
    output: Tensor | None = None

    @property
    def learns(self) -> bool:
        """Whether gradients are wanted: of the tool, or of what the tools before it made."""
        trained = any(parameter.requires_grad for parameter in self.tool.parameters)
        return trained or self.inputs.requires_grad


class DifferentiablePlans:
    """Plans that have been run, and can be differentiated.

    Images that need the same tool next go through it together. Each tool's part of the graph begins at a
    copy of its inputs; :meth:`backward` goes from tool to tool, last to first, and makes a part again if
    it was not kept. So no more than one part is there at a time.

    Args:
        toolbox: The tools, on the images' device.
        images: float32 (3, h, w), which may differ in size.
        plans: Tool names in order, one per image.
        canvases: At which size each result will be judged.
        checkpointing: What is computed again for the gradients.
        autocast: Compute the tools in bfloat16.

    Attributes:
        results: One per plan, float32 (3, h', w'), as the tools left it. Put gradients into their
            ``grad``, as ``loss.backward()`` does, before :meth:`backward`.

    Raises:
        UnknownToolError: If a plan names a tool that the toolbox lacks.
        ToolFailedError: If a tool raises.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        images: Sequence[Tensor],
        plans: Sequence[Plan],
        canvases: Sequence[Canvas],
        checkpointing: Checkpointing = "auto",
        autocast: bool = False,
    ) -> None:
        self._plans, self._autocast, self._stages = plans, autocast, list[_ToolStep]()
        now, learns = list(images), [False] * len(images)  # whether a tool before this one learns
        longest = max(map(len, plans), default=0)
        for step in range(longest):
            groups: dict[tuple[str, tuple[int, ...], Canvas], list[int]] = {}
            for row, plan in enumerate(plans):
                if step < len(plan):
                    groups.setdefault((plan[step], tuple(now[row].shape), canvases[row]), []).append(row)
            keep = checkpointing == "never" or (checkpointing == "auto" and step == longest - 1)
            for (name, _, canvas), rows in groups.items():
                inputs = _batch(toolbox[name], [now[row] for row in rows])
                inputs.requires_grad_(any(learns[row] for row in rows))
                stage = _ToolStep(toolbox[name], canvas, rows, inputs, step)
                self._stages.append(stage)
                for row, image in zip(rows, self._run(stage, keep), strict=True):
                    now[row], learns[row] = image, learns[row] or stage.learns
        self.results = [image.detach().requires_grad_() for image in now]

    def _run(self, stage: _ToolStep, keep: bool) -> Tensor:
        """Runs a stage, and remembers the graph if that is wanted; returns its results without it."""
        try:
            with (
                torch.set_grad_enabled(keep and stage.learns),
                torch.autocast(stage.inputs.device.type, torch.bfloat16, enabled=self._autocast),
            ):
                # A tool may write into what it is given, and may be given it again.
                given = stage.inputs if keep else stage.inputs.clone()
                output = stage.tool(given, stage.canvas)
        except (RuntimeError, ValueError) as error:
            raise self._tool_failed(stage, str(error)) from error
        stage.output = output if output.requires_grad else None
        return output.detach()

    def backward(self) -> None:
        """Adds the tools' gradients to their parameters'; frees what it has used.

        Raises:
            ToolFailedError: If a tool lets no gradients through to the tools before it.
        """
        gradients = [result.grad for result in self.results]
        while self._stages:
            stage = self._stages.pop()
            if not stage.learns:
                continue
            if stage.output is None:
                self._run(stage, keep=True)
            if stage.output is None:
                raise self._tool_failed(stage, "it lets no gradients through to the tools before it")
            wanted = [gradients[row] for row in stage.rows]
            given = torch.stack(
                [
                    torch.zeros_like(one) if g is None else g
                    for one, g in zip(stage.output, wanted, strict=True)
                ]
            )
            torch.autograd.backward(stage.output, given)
            if stage.inputs.grad is not None:
                for row, gradient in zip(stage.rows, stage.inputs.grad, strict=True):
                    gradients[row] = gradient

    def _tool_failed(self, stage: _ToolStep, reason: str) -> ToolFailedError:
        before = self._plans[stage.rows[0]][: stage.step]
        return ToolFailedError(stage.tool.name, before, tuple(stage.inputs.shape[1:]), reason)


def _batch(tool: Tool, images: Sequence[Tensor]) -> Tensor:
    layout = torch.contiguous_format if tool.module is None else torch.channels_last
    return torch.stack(list(images)).contiguous(memory_format=layout)
