"""Runs of trainers: their settings, their folders, and the content of what they were given."""

from opera_env.runs.folder import (
    SETTINGS_FILE,
    claim_run_dir,
    describe_changes,
    describe_progress,
    lock_path,
    read_settings,
)
from opera_env.runs.identity import (
    Identity,
    folder_name,
    identify_agent,
    identify_file,
    identify_images,
    identify_toolbox,
    identify_weights,
)
from opera_env.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    check_settings,
)

__all__ = [
    "SETTINGS_FILE",
    "Identity",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "Range",
    "check_settings",
    "claim_run_dir",
    "describe_changes",
    "describe_progress",
    "folder_name",
    "identify_agent",
    "identify_file",
    "identify_images",
    "identify_toolbox",
    "identify_weights",
    "lock_path",
    "read_settings",
]
