"""``opera-env demo``: serves a page on this machine."""

from __future__ import annotations

from threading import Event

from opera_env.cli.options.demo import Demo
from opera_env.demo.server import serve_page
from opera_env.demo.workshop import Workshop
from opera_env.devices import resolve_device


def run(options: Demo) -> int:
    """Serves until the process is told to end; returns the exit code.

    Raises:
        MissingPackageError: If gradio is not installed.
        OSError: If the port is in use.
    """
    device = resolve_device(options.device)
    workshop = Workshop(device, options.max_megapixels, max_waiting=options.max_queue)
    mcp = not options.without_mcp
    with serve_page(workshop, options.host, options.port, options.max_queue, mcp) as address:
        print(f"open {address}" + (f"; chat agents: {address}gradio_api/mcp/" if mcp else ""), flush=True)
        Event().wait()
    return 0
