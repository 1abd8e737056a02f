"""Restores photographs: an agent plans on a window of the photograph, and the tools run on all of it."""

from opera_env.restoration.config import DEFAULT_AGENT, DEFAULT_TOOLBOX, RestorerConfig
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
