"""Shards of collected data: ``.npz`` files, whose checksums are compared when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from opera_env.errors import RunError, error_message

_DAMAGES = (BadZipFile, EOFError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)
"""What NumPy and the ZIP format raise for damaged files."""


@contextmanager
def open_shard(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Opens a shard; its arrays are read within the ``with`` statement.

    Raises:
        RunError: If the file is not a shard, or is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except _DAMAGES as error:
        raise RunError(
            f"{path}: expected a shard of collected data ({error_message(error)}): delete it, and the same "
            "command collects it again."
        ) from error
