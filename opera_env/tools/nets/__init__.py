"""The network definitions that a toolbox manifest can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from opera_env.errors import ToolboxError
from opera_env.tools.nets.brighten import ConstantShift, GammaCorrection
from opera_env.tools.nets.exposure import LocalToneCurve
from opera_env.tools.nets.nafnet import NAFNet
from opera_env.tools.nets.promptir import PromptIR
from opera_env.tools.nets.restormer import Restormer
from opera_env.tools.nets.unet import UNet
from opera_env.tools.nets.xrestormer import XRestormer

NETS: Mapping[str, type[nn.Module]] = {
    "unet": UNet,
    "nafnet": NAFNet,
    "gamma": GammaCorrection,
    "shift": ConstantShift,
    "expose": LocalToneCurve,
    "restormer": Restormer,
    "xrestormer": XRestormer,
    "promptir": PromptIR,
}
"""Kinds of network, by their name in manifests."""


def build_net(kind: str, options: Mapping[str, Any]) -> nn.Module:
    """Builds a network from its entry in a manifest, with newly initialised weights.

    Args:
        kind: A key of :data:`NETS`.
        options: Keyword arguments of the network's class.

    Raises:
        ToolboxError: If there is no such kind, or its class does not accept the options.
    """
    if kind not in NETS:
        raise ToolboxError(f"unknown network {kind!r}; expected one of {', '.join(NETS)}.")
    try:
        return NETS[kind](**options)
    except TypeError as error:
        raise ToolboxError(
            f"network {kind!r} does not accept the options {dict(options)}: {error}"
        ) from error


__all__ = [
    "NETS",
    "ConstantShift",
    "GammaCorrection",
    "LocalToneCurve",
    "NAFNet",
    "PromptIR",
    "Restormer",
    "UNet",
    "XRestormer",
    "build_net",
]
