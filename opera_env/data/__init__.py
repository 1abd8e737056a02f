"""Sources of samples, and image files in and out."""

from opera_env.data.sources import (
    Entry,
    FilesSource,
    Source,
    SynthesisSource,
    agenticir,
    bundled,
    clean_folder,
    open_source,
    paired,
    photographs,
)

__all__ = [
    "Entry",
    "FilesSource",
    "Source",
    "SynthesisSource",
    "agenticir",
    "bundled",
    "clean_folder",
    "open_source",
    "paired",
    "photographs",
]
