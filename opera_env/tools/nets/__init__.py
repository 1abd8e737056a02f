"""Network definitions that a toolbox manifest may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from opera_env.errors import ToolboxError
from opera_env.tools.nets.brighten import ConstantShift, GammaCorrection
from opera_env.tools.nets.nafnet import NAFNet
from opera_env.tools.nets.unet import UNet

NETS: Mapping[str, type[nn.Module]] = {
    "unet": UNet,
    "nafnet": NAFNet,
    "gamma": GammaCorrection,
    "shift": ConstantShift,
}


def build_net(kind: str, options: Mapping[str, Any]) -> nn.Module:
    """Builds a network from its entry in a manifest.

    Raises:
        ToolboxError: If the kind is unknown or does not take the options.
    """
    if kind not in NETS:
        raise ToolboxError(f"unknown network {kind!r}; this version knows {', '.join(NETS)}.")
    try:
        return NETS[kind](**options)
    except TypeError as error:
        raise ToolboxError(f"network {kind!r} does not take {dict(options)}: {error}") from error


__all__ = ["NETS", "ConstantShift", "GammaCorrection", "NAFNet", "UNet", "build_net"]
