"""``opera-env serve-tool``: serves a network of one's own as a tool of toolboxes in other processes."""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from opera_env.cli.options.serve_tool import ServeTool
from opera_env.devices import resolve_device
from opera_env.errors import ToolboxError
from opera_env.tools.own_code import build_own, load_state
from opera_env.tools.served.server import Served, identify, serve
from opera_env.tools.tool import RestoreFn
from opera_env.weights.tensors import load_tensors


def run(options: ServeTool) -> int:
    """Serves the network until the process is told to end; returns the exit code.

    Raises:
        ToolboxError: If packages are missing, or the network cannot be imported, built or loaded.
    """
    missing = [package for package in ("starlette", "uvicorn") if find_spec(package) is None]
    if missing:
        raise ToolboxError(
            f"serving a tool needs the packages {', '.join(missing)}: pip install 'opera-env[serve]'."
        )
    device = resolve_device(options.device)
    network = build_own(options.network, options.keyword_arguments())
    if options.weights is not None:
        what = f"network {options.network!r} and {options.weights}"
        load_state(network, load_tensors(options.weights), what)
    served = Served(
        name=options.network,
        identity=options.identity or identify(network, options.network),
        scale=options.scale,
        multiple=options.multiple,
        minimum=options.minimum,
        halo=options.halo,
        max_pixels=options.max_pixels,
        max_batch=options.max_batch,
    )
    if isinstance(network, nn.Module):
        network = _on_device(network.eval(), device)
    serve(network, served, options.port, options.host)
    return 0


def _on_device(network: nn.Module, device: str) -> RestoreFn:
    """Moves a module to a device, and its images with it."""
    network.to(device)
    if device == "cpu":
        return network
    restore: RestoreFn = lambda images: network(images.to(device))  # noqa: E731
    return restore
