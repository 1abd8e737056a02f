"""Sources of samples: clean photographs degraded on demand, and files that are degraded already."""

from opera_env.data.sources.files import FileEntry, FilesSource, agenticir, paired, photographs
from opera_env.data.sources.protocol import Source, list_samples
from opera_env.data.sources.real import RealSource, real_photographs
from opera_env.data.sources.resolve import resolve_source
from opera_env.data.sources.synthetic import BUNDLED_IMAGES, SyntheticSource, bundled, clean_folder

__all__ = [
    "BUNDLED_IMAGES",
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
