"""The toolbox ``paper``: sixteen official networks, and the two brighteners of the paper's release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opera_env.errors import MissingWeightsError, ToolboxError, WeightsIntegrityError
from opera_env.tools.net_bounds import check_fit
from opera_env.tools.nets import build_net
from opera_env.tools.swinir import SWINIR, build_swinir, swinir_tool
from opera_env.tools.tool import Tool
from opera_env.weights.paper_files import PAPER_FILES
from opera_env.weights.published import PublishedFile, record_hash, require_published
from opera_env.weights.tensors import load_checkpoint_tensors

PAPER = "paper"
"""Name of the toolbox."""

_SWINIR = "swinir"


@dataclass(frozen=True)
class PaperTool:
    """A tool of the paper.

    Attributes:
        name: Its name in plans.
        degradation: What it is meant to remove.
        net: A key of :data:`opera_env.tools.nets.NETS`, or ``"swinir"``.
        options: Options of the network; of SwinIR, ``config``, a key of
            :data:`opera_env.tools.swinir.SWINIR`.
    """

    name: str
    degradation: str
    net: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Builds the network with newly initialised weights."""
        if self.net == _SWINIR:
            return build_swinir(SWINIR[self.options["config"]])
        return build_net(self.net, self.options)

    def make(self, state: Mapping[str, Tensor] | None) -> Tool:
        """Makes the tool.

        Args:
            state: Weights, whose names and shapes must be right; None for newly initialised ones.
        """
        degradations = frozenset({self.degradation})
        net: Any = self.build() if state is None or self.net != _SWINIR else None
        if self.net == _SWINIR:
            return swinir_tool(self.name, net.state_dict() if state is None else state, degradations)
        if state is not None:
            net.load_state_dict(state)
        return Tool(
            self.name,
            net.eval(),
            scale=getattr(net, "scale", 1),
            multiple=getattr(net, "multiple", 1),
            halo=net.halo,
            degradations=degradations,
            net=(self.net, self.options),
        )


PAPER_TOOLS = (
    PaperTool("restormer.gaussian_denoise_15", "noise", "restormer", {"bias_free": True}),
    PaperTool("restormer.gaussian_denoise_25", "noise", "restormer", {"bias_free": True}),
    PaperTool("restormer.gaussian_denoise_50", "noise", "restormer", {"bias_free": True}),
    PaperTool("restormer.derain", "rain", "restormer"),
    PaperTool("restormer.defocus_deblur", "defocus_blur", "restormer"),
    PaperTool("restormer.motion_deblur", "motion_blur", "restormer"),
    PaperTool("xrestormer.denoise_50", "noise", "xrestormer"),
    PaperTool("xrestormer.derain", "rain", "xrestormer"),
    PaperTool("xrestormer.dehaze", "haze", "xrestormer"),
    PaperTool("xrestormer.deblur", "motion_blur", "xrestormer"),
    PaperTool("xrestormer.super_resolution", "low_resolution", "xrestormer", {"scale": 4}),
    PaperTool("swinir.super_resolution", "low_resolution", _SWINIR, {"config": "real_sr_large"}),
    PaperTool("swinir.gaussian_denoise_15", "noise", _SWINIR, {"config": "denoise"}),
    PaperTool("swinir.gaussian_denoise_25", "noise", _SWINIR, {"config": "denoise"}),
    PaperTool("swinir.gaussian_denoise_50", "noise", _SWINIR, {"config": "denoise"}),
    PaperTool("swinir.dejpeg", "jpeg", _SWINIR, {"config": "dejpeg"}),
    PaperTool("brighten.gamma_correction", "low_light", "gamma", {"gamma": 1.5}),
    PaperTool("brighten.constant_shift", "low_light", "shift", {"levels": 40}),
)
"""The tools in the paper's order; the last two are those that its release adds."""


def missing_files() -> list[PublishedFile]:
    """Returns the weight files of the paper's tools that are not on this machine."""
    return [file for file in PAPER_FILES.values() if not file.path.is_file()]


def load_paper_tools() -> list[Tool]:
    """Loads the tools with their official weights.

    Raises:
        MissingWeightsError: If weight files are missing; the message names all of them and the commands
            that get them.
        WeightsIntegrityError: If a file holds another network, or has not the hash that was recorded for
            it.
    """
    if missing := missing_files():
        commands = ["opera-env weights fetch paper"] * any(file.urls for file in missing)
        if by_hand := [file for file in missing if not file.urls]:
            page = by_hand[0].page
            commands.append(f"opera-env weights fetch paper --from FOLDER, after a download from {page}")
        names = ", ".join(file.name for file in missing)
        what = f"toolbox 'paper', {len(missing)} of {len(PAPER_FILES)} weight files are missing ({names})"
        raise MissingWeightsError(what, missing[0].path, "; ".join(commands))
    return [_load(tool) for tool in PAPER_TOOLS]


def _load(tool: PaperTool) -> Tool:
    file = PAPER_FILES.get(tool.name)
    if file is None:
        return tool.make(None)
    path = require_published(file)
    loaded = tool.make(_read_state(tool, path))
    record_hash(file)
    return loaded


def random_paper_tools(seed: int = 0, names: Sequence[str] | None = None) -> list[Tool]:
    """Makes tools with newly initialised weights: for measurements and tests, not for restoration.

    Args:
        seed: Seed of the weights.
        names: Which of the tools; all by default.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [tool.make(None) for tool in PAPER_TOOLS if names is None or tool.name in names]


def check_paper_file(file: PublishedFile, path: Path) -> None:
    """Checks that a file holds the network of the tool that it is for.

    Args:
        file: The entry of the table.
        path: The file.

    Raises:
        WeightsIntegrityError: If it does not; the message says what was expected and what was found.
    """
    _read_state(next(tool for tool in PAPER_TOOLS if tool.name == file.name), path)


def _read_state(tool: PaperTool, path: Path) -> dict[str, Tensor]:
    """Reads the weights of a tool as float32; their names and shapes are those of its network."""
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in load_checkpoint_tensors(path).items()
    }
    if (difference := _difference(tool, state)) is not None:
        others = sorted({other.name for other in PAPER_TOOLS if _difference(other, state) is None})
        fits = f"; it fits {', '.join(others)}" if others else ""
        expected = f"the {tool.net} network of {tool.name}"
        raise WeightsIntegrityError(
            path, expected, f"{len(state)} tensors of another one ({difference}{fits})"
        )
    return state


def _difference(tool: PaperTool, state: Mapping[str, Tensor]) -> str | None:
    """Returns in what tensors differ from those of a tool's network; None if they fit."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if tool.net != _SWINIR:
        try:
            check_fit(tool.net, tool.options, shapes)
        except ToolboxError as error:
            return str(error)
        return None
    expected = _swinir_shapes(tool.options["config"])
    for name in (*expected, *shapes):
        if expected.get(name) != shapes.get(name):
            return (
                f"tensor {name!r}: expected shape {expected.get(name, 'none')}, found "
                f"{shapes.get(name, 'none')}"
            )
    return None


@cache
def _swinir_shapes(config: str) -> Mapping[str, tuple[int, ...]]:
    state = build_swinir(SWINIR[config]).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}
