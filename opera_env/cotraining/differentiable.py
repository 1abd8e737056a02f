"""Running plans with gradients through all of their tools, with memory for about one tool."""

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
"""Gradient checkpointing: which tools run again during the backward pass instead of keeping activations.

- ``"auto"``: all but those at the last position of the longest plans, whose gradients come first. Plans of
  one tool cost no additional time, and longer plans need little more memory.
- ``"always"``: all tools.
- ``"never"``: none. This is the fastest, and the memory grows with the length of the plans.
"""


@dataclass(eq=False)
class _ToolStep:
    """One application of a tool to a batch of images.

    Attributes:
        tool: The tool.
        canvas: Height and width at which the images will be scored.
        rows: Indices of the plans that the images belong to.
        inputs: float32 (B, 3, h, w), detached from the tools before.
        position: Position of the tool in these plans, counted from 0.
        output: The results with their graph; None if they must be computed again for the gradients.
    """

    tool: Tool
    canvas: Canvas
    rows: list[int]
    inputs: Tensor
    position: int
    output: Tensor | None = None

    @property
    def requires_grad(self) -> bool:
        """Whether the tool, or a tool before it, is trained."""
        is_trained = any(parameter.requires_grad for parameter in self.tool.parameters)
        return is_trained or self.inputs.requires_grad


class DifferentiablePlans:
    """Runs plans when it is constructed; :meth:`backward` adds the gradients of all tools in them.

    Images that need the same tool next go through it in one batch. The graph of each tool starts at
    detached inputs. :meth:`backward` visits the tools from last to first and runs a tool again if its
    activations were not kept, so that the activations of about one tool are in memory at a time.

    Args:
        toolbox: The tools, on the device of the images.
        images: float32 (3, h, w) each; their sizes may differ.
        plans: The tool names of each plan in order; one plan per image.
        canvases: Height and width at which each result will be scored.
        checkpointing: Which tools run again during the backward pass.
        autocast: Whether the tools compute in bfloat16.

    Attributes:
        results: The result of each plan, float32 (3, h', w'), neither clamped nor resized. They are leaf
            tensors: call ``loss.backward()`` on a loss of them, then :meth:`backward`.

    Raises:
        UnknownToolError: If a plan names a tool that the toolbox lacks.
        ToolFailedError: If a tool raises an error.
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
        self._plans, self._autocast, self._tool_steps = plans, autocast, list[_ToolStep]()
        current = list(images)
        requires_grad = [False] * len(images)  # whether a tool before is trained
        longest = max(map(len, plans), default=0)
        for position in range(longest):
            groups: dict[tuple[str, tuple[int, ...], Canvas], list[int]] = {}
            for row, plan in enumerate(plans):
                if position < len(plan):
                    key = (plan[position], tuple(current[row].shape), canvases[row])
                    groups.setdefault(key, []).append(row)
            keep_graph = checkpointing == "never" or (checkpointing == "auto" and position == longest - 1)
            for (name, _, canvas), rows in groups.items():
                inputs = _stack(toolbox[name], [current[row] for row in rows])
                inputs.requires_grad_(any(requires_grad[row] for row in rows))
                tool_step = _ToolStep(toolbox[name], canvas, rows, inputs, position)
                self._tool_steps.append(tool_step)
                for row, image in zip(rows, self._run(tool_step, keep_graph), strict=True):
                    current[row] = image
                    requires_grad[row] = requires_grad[row] or tool_step.requires_grad
        self.results = [image.detach().requires_grad_() for image in current]

    def _run(self, tool_step: _ToolStep, keep_graph: bool) -> Tensor:
        """Runs a tool, keeps the graph if requested, and returns the detached results."""
        try:
            with (
                torch.set_grad_enabled(keep_graph and tool_step.requires_grad),
                torch.autocast(tool_step.inputs.device.type, torch.bfloat16, enabled=self._autocast),
            ):
                # A tool may write into its input, and the input is needed again if the graph is not kept.
                inputs = tool_step.inputs if keep_graph else tool_step.inputs.clone()
                output = tool_step.tool(inputs, tool_step.canvas)
        except (RuntimeError, ValueError) as error:
            raise self._tool_failed(tool_step, str(error)) from error
        tool_step.output = output if output.requires_grad else None
        return output.detach()

    def backward(self) -> None:
        """Adds the gradients to the parameters of the tools, and frees the graphs.

        The gradients of the results are read from their ``grad``. Call this once.

        Raises:
            ToolFailedError: If a tool is not differentiable and a tool before it is trained.
        """
        gradients = [result.grad for result in self.results]
        while self._tool_steps:
            tool_step = self._tool_steps.pop()
            if not tool_step.requires_grad:
                continue
            if tool_step.output is None:
                self._run(tool_step, keep_graph=True)
            if tool_step.output is None:
                raise self._tool_failed(
                    tool_step, "it is not differentiable, so no gradients reach the tools before it"
                )
            result_grads = [gradients[row] for row in tool_step.rows]
            grad_output = torch.stack(
                [
                    torch.zeros_like(result) if gradient is None else gradient
                    for result, gradient in zip(tool_step.output, result_grads, strict=True)
                ]
            )
            torch.autograd.backward(tool_step.output, grad_output)
            if tool_step.inputs.grad is not None:
                for row, gradient in zip(tool_step.rows, tool_step.inputs.grad, strict=True):
                    gradients[row] = gradient

    def _tool_failed(self, tool_step: _ToolStep, reason: str) -> ToolFailedError:
        prefix = self._plans[tool_step.rows[0]][: tool_step.position]
        return ToolFailedError(tool_step.tool.name, prefix, tuple(tool_step.inputs.shape[1:]), reason)


def _stack(tool: Tool, images: Sequence[Tensor]) -> Tensor:
    """Stacks images in the memory layout that the tool runs fastest on."""
    layout = torch.contiguous_format if tool.module is None else torch.channels_last
    return torch.stack(list(images)).contiguous(memory_format=layout)
