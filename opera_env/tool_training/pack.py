"""Packs trained tools into a toolbox folder.

Example:
    opera-env tools pack --runs runs/lite --out opera_env/tools/weights/lite
    opera-env tools pack --base lite --out runs/toolbox    # replaces the tools that were trained again
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from opera_env.tool_training.config import PackConfig
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.pools import pool_specs
from opera_env.tool_training.train import load_trained_weights
from opera_env.tools.nets import build_net
from opera_env.tools.tool import Tool
from opera_env.tools.toolbox import Toolbox


def build_tool(spec: ToolSpec, runs: Path) -> Tool:
    """Builds a tool from its spec and its trained weights.

    Args:
        spec: The spec of the tool.
        runs: Folder with one folder for each trained tool.

    Raises:
        MissingWeightsError: If the tool has not been trained.
    """
    net = build_net(spec.net, spec.options)
    training: dict[str, object] = {}
    if spec.steps:
        net.load_state_dict(load_trained_weights(runs, spec.name))
        training = json.loads((runs / spec.name / "training.json").read_text())
    return Tool(
        spec.name,
        net.eval(),
        scale=spec.options.get("scale", 1),
        multiple=getattr(net, "multiple", 1),
        halo=getattr(net, "halo", None),
        degradations=spec.degradations,
        net=(spec.net, spec.options),
        training=training,
    )


def pack(config: PackConfig) -> None:
    """Writes the toolbox folder and prints its fingerprint.

    Raises:
        MissingWeightsError: If a tool has not been trained and there is no base toolbox.
    """
    base = None if config.base is None else Toolbox.load(config.base)
    toolbox = Toolbox(
        build_tool(spec, config.runs)
        if base is None or (config.runs / spec.name).is_dir()
        else base[spec.name]
        for spec in pool_specs(config.pool)
    )
    toolbox.save(config.out, dtype=torch.float16)
    print(f"{len(toolbox)} tools, fingerprint {toolbox.fingerprint} -> {config.out}")
