"""Runs plans with gradients through all of their tools, in memory that hardly grows with their length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from opera_env.errors import ToolFailedError
from opera_env.tools import Tool, Toolbox
from opera_env.types import Canvas, Plan

Checkpointing = Literal["auto", "always", "never"]
"""Whether what happens inside a tool is computed again for its gradients instead of being kept.
"auto" keeps it for the tools that run last, whose gradients come first: a plan of one tool costs what it
always did, and a longer one needs little more memory than that."""


def run_chains(
    toolbox: Toolbox,
    images: Sequence[Tensor],
    plans: Sequence[Plan],
    canvases: Sequence[Canvas],
    checkpointing: Checkpointing = "auto",
) -> list[Tensor]:
    """Runs one plan per image. Images that need the same tool next go through it together.

    Args:
        toolbox: The tools, on the images' device.
        images: float32 (3, h, w), which may differ in size.
        plans: Tool names in order.
        canvases: At which size each result will be judged.
        checkpointing: What is computed again for the gradients.

    Returns:
        One result per image, float32 (3, h', w'), with gradients; as the tools left it.

    Raises:
        UnknownToolError: If a plan names a tool that the toolbox lacks.
        ToolFailedError: If a tool raises, or lets no gradients through to the tools before it.
    """
    results = list(images)
    longest = max(map(len, plans), default=0)
    for step in range(longest):
        groups: dict[tuple[str, tuple[int, ...], Canvas], list[int]] = {}
        for row, plan in enumerate(plans):
            if step < len(plan):
                groups.setdefault((plan[step], tuple(results[row].shape), canvases[row]), []).append(row)
        again = checkpointing == "always" or (checkpointing == "auto" and step < longest - 1)
        for (name, shape, canvas), rows in groups.items():
            batch = torch.stack([results[row] for row in rows])
            try:
                restored = _apply(toolbox[name], batch, canvas, again)
            except (RuntimeError, ValueError) as error:
                raise ToolFailedError(name, plans[rows[0]][:step], shape, str(error)) from error
            for row, image in zip(rows, restored, strict=True):
                results[row] = image
    return results


def _apply(tool: Tool, batch: Tensor, canvas: Canvas, again: bool) -> Tensor:
    batch = batch.contiguous(memory_format=torch.channels_last if tool.module else torch.contiguous_format)
    if again and tool.module is not None:
        restored = checkpoint(tool, batch, canvas, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(restored, Tensor)
    else:
        restored = tool(batch, canvas)
    if batch.requires_grad and not restored.requires_grad:
        raise ValueError("it lets no gradients through, so the tools before it cannot learn in this plan")
    return restored
