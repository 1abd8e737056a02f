"""Addresses of served tools: on this machine only."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from opera_env.errors import ToolboxError


def is_address(source: object) -> bool:
    """Returns whether the source of a tool is an address."""
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def parse_address(address: str) -> tuple[str, int]:
    """Returns the host and the port of an address on this machine.

    Raises:
        ToolboxError: If it is none.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        is_plain = parts.scheme == "http" and parts.path in ("", "/")
        is_local = is_plain and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        host, port, is_local = "", None, False
    if not is_local or port is None:
        raise ToolboxError(
            f"expected the address of a tool on this machine, such as http://127.0.0.1:8100, found "
            f"{address!r}. To use one on another machine, forward its port: ssh -L 8100:127.0.0.1:8100 HOST"
        )
    return host, port
