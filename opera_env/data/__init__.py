"""Sources of samples; reading and writing image files."""

from opera_env.data.sources import (
    FileEntry,
    FilesSource,
    Source,
    SyntheticSource,
    agenticir,
    bundled,
    clean_folder,
    list_samples,
    paired,
    photographs,
    resolve_source,
)

__all__ = [
    "FileEntry",
    "FilesSource",
    "Source",
    "SyntheticSource",
    "agenticir",
    "bundled",
    "clean_folder",
    "list_samples",
    "paired",
    "photographs",
    "resolve_source",
]
