"""Serving the page."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from opera_env.demo.workshop import Workshop
from opera_env.imports import needs_extra

_MAX_FILE_SIZE = "64mb"


@contextmanager
def serve_page(
    workshop: Workshop,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_queue: int = 16,
    mcp: bool = True,
) -> Iterator[str]:
    """Serves the page until the ``with`` statement ends; yields its address.

    One photograph is restored at a time, and ``max_queue`` may wait. Files are removed at the end, and
    after half an hour. Nothing is sent to other machines: no telemetry, no tunnel, no fonts.

    Args:
        workshop: Restores the photographs.
        host: Address of this machine to serve at.
        port: Port; 0 for any that is free.
        max_queue: Largest number of requests that wait.
        mcp: Whether chat agents can use the page by the Model Context Protocol.

    Raises:
        MissingPackageError: If gradio is not installed.
        OSError: If the port is in use.
    """
    with TemporaryDirectory(prefix="opera-env-demo-") as temporary:
        folder = Path(temporary)
        if "gradio" not in sys.modules:  # it reads both when it is imported
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
            os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
        with needs_extra("demo"):
            from gradio.themes import Default

            from opera_env.demo.page import build_page
            from opera_env.demo.widgets import CSS

        page = build_page(workshop, folder).queue(max_size=max_queue, default_concurrency_limit=1)
        theme = Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
        _, address, _ = page.launch(
            server_name=host,
            server_port=port or _free_port(host),
            mcp_server=mcp,
            allowed_paths=[str(folder)],
            max_file_size=_MAX_FILE_SIZE,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            theme=theme,
            css=CSS,
        )
        try:
            yield address
        finally:
            page.close()


def _free_port(host: str) -> int:
    """Returns a free port; gradio alone takes that of an environment variable, or one of its own range."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
