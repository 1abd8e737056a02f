"""Recognises checkpoints of the networks of this package by the names and shapes of their tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from opera_env.errors import ToolboxError, WeightsIntegrityError
from opera_env.tools.net_bounds import Shapes, check_fit
from opera_env.tools.nets import build_net
from opera_env.tools.tool import Tool
from opera_env.weights.tensors import load_checkpoint_tensors

_LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")


def tool_from_checkpoint(name: str, path: Path, scale: int | None = None) -> Tool | None:
    """Makes a tool from a checkpoint of Restormer, X-Restormer or PromptIR, without running code from it.

    Args:
        name: Name of the tool.
        path: The file, as training programs write it.
        scale: Factor by which X-Restormer enlarges an image, of which its weights say nothing; 1 by
            default.

    Returns:
        The tool; None if the file holds another network, or cannot be read.

    Raises:
        ToolboxError: If the tensors are those of a variant that this package does not have.
    """
    try:
        state = load_checkpoint_tensors(path)
    except WeightsIntegrityError:
        return None
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    found = recognise(shapes, scale)
    if found is None:
        return None
    kind, options = found
    try:
        check_fit(kind, options, shapes)
    except ToolboxError as error:
        raise ToolboxError(
            f"tool {name!r}: {path} is a variant of {kind} that is not known: {error}."
        ) from error
    net: Any = build_net(kind, options)
    net.load_state_dict({key: _as_float32(value) for key, value in state.items()})
    return Tool(name, net.eval(), net.scale, net.multiple, halo=net.halo, net=(kind, options))


def _as_float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def recognise(shapes: Shapes, scale: int | None = None) -> tuple[str, dict[str, Any]] | None:
    """Finds the kind and the options of a network from the shapes of its tensors; None for other networks.

    The windows of X-Restormer are taken to overlap by half, as in all published configurations.
    """
    if "encoder_level1.0.spatial_attn.rel_pos_emb.rel_height" in shapes:
        kind, ffn, attention = "xrestormer", "channel_ffn", "channel_attn"
    elif "encoder_level1.0.attn.temperature" in shapes:
        kind = "promptir" if "prompt1.prompt_param" in shapes else "restormer"
        ffn, attention = "ffn", "attn"
    else:
        return None
    try:
        dim = shapes["patch_embed.proj.weight"][0]
        hidden = shapes[f"latent.0.{ffn}.project_out.weight"][1]
        heads = [shapes[f"{level}.0.{attention}.temperature"][0] for level in _LEVELS]
        options: dict[str, Any] = {
            "dim": dim,
            "num_blocks": [_count_blocks(shapes, level) for level in _LEVELS],
            "num_refinement_blocks": _count_blocks(shapes, "refinement"),
            # Half a channel more, as the number of channels was rounded down.
            "expansion": round((hidden + 0.5) / (8 * dim), 6),
        }
        if kind == "xrestormer":
            rows, head_dim = shapes["encoder_level1.0.spatial_attn.rel_pos_emb.rel_height"]
            outputs = [shapes[f"{level}.0.spatial_attn.project_out.weight"][1] for level in _LEVELS]
            options |= {"channel_heads": heads, "spatial_heads": [width // head_dim for width in outputs]}
            options |= {"head_dim": head_dim, "window": (rows + 1) // 3, "scale": scale or 1}
        elif kind == "restormer":
            options |= {"heads": heads, "bias_free": "encoder_level1.0.norm1.body.bias" not in shapes}
        else:
            prompts = [shapes[f"prompt{level}.prompt_param"] for level in (1, 2, 3)]
            options |= {
                "heads": heads,
                "prompts": prompts[0][1],
                "prompt_channels": [row[2] for row in prompts],
            }
            options |= {"prompt_sizes": [row[3] for row in prompts]}
            options |= {"reduced_channels": shapes["chnl_reduce3.weight"][0]}
    except (KeyError, IndexError, ZeroDivisionError):  # names of these networks, and other tensors
        return None
    return kind, options


def _count_blocks(shapes: Shapes, level: str) -> int:
    pattern = re.compile(rf"{level}\.(\d+)\.")
    return len({match[1] for name in shapes if (match := pattern.match(name))})
