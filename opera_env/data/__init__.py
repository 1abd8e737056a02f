"""Sources of samples; reading and writing image files."""

from opera_env.data.sources import (
    FileEntry,
    FilesSource,
    RealSource,
    Source,
    SyntheticSource,
    agenticir,
    bundled,
    clean_folder,
    list_samples,
    paired,
    photographs,
    real_photographs,
    resolve_source,
)

__all__ = [
    "FileEntry",
    "FilesSource",
    "RealSource",
    "Source",
    "SyntheticSource",
    "agenticir",
    "bundled",
    "clean_folder",
    "list_samples",
    "paired",
    "photographs",
    "real_photographs",
    "resolve_source",
]
