"""Restores photographs: an agent plans, plans are scored on a window, and the tools run on all of it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from opera_env.restoration.config import DEFAULT_AGENT, DEFAULT_TOOLBOX, RestorerConfig

if TYPE_CHECKING:
    from opera_env.restoration.planning import PlannedRestoration
    from opera_env.restoration.restorer import ProgressCallback, Restoration, Restorer
    from opera_env.restoration.window import representative_window

__all__ = [
    "DEFAULT_AGENT",
    "DEFAULT_TOOLBOX",
    "PlannedRestoration",
    "ProgressCallback",
    "Restoration",
    "Restorer",
    "RestorerConfig",
    "representative_window",
]

_MODULES = {
    "PlannedRestoration": "planning",
    "ProgressCallback": "restorer",
    "Restoration": "restorer",
    "Restorer": "restorer",
    "representative_window": "window",
}
"""The module of each name that needs torch."""


def __getattr__(name: str) -> Any:
    """Imports a name that needs torch when it is used first (PEP 562).

    The command line reads the default settings from this package for its help texts, which appear at once
    without torch.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
