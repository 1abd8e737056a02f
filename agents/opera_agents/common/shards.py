"""Shards of collected data: ``.npz`` files, collected one by one, whose checksums are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from opera_env.cluster import Cluster, map_on_cluster
from opera_env.errors import RunError, error_message
from opera_env.runs import claim_run_dir

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


class Shard(Protocol):
    """The data of one shard."""

    @property
    def summary(self) -> str:
        """One line about the data, which is printed."""
        ...

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file atomically."""
        ...


def collect_shards(
    folder: Path,
    settings: Mapping[str, Any],
    count: int,
    prepare: Callable[[], Callable[[int], Shard]],
    cluster: Cluster | None = None,
) -> list[Path]:
    """Collects the missing shards of a folder; returns the paths of all shards.

    Args:
        folder: The folder, which is locked meanwhile.
        settings: The settings of the run, see :func:`opera_env.runs.claim_run_dir`. They determine each
            shard together with its number, and so do not contain the number of shards.
        count: Number of shards.
        prepare: Returns the function that collects a shard by number. It is called once the folder is
            locked, if a shard is missing; on a cluster, once in each worker process.
        cluster: Collects the shards on a cluster; None collects them in this process.

    Raises:
        RunError: If another process collects in the folder, or the folder holds shards that were collected
            with other settings.
    """
    with claim_run_dir(folder, settings):
        paths = [folder / f"{number:03}.npz" for number in range(count)]
        if missing := [number for number, path in enumerate(paths) if not path.is_file()]:
            shards: Iterator[tuple[int, Shard]]
            if cluster is None:
                collect = prepare()
                shards = ((number, collect(number)) for number in missing)
            else:
                shards = map_on_cluster(cluster, prepare, missing)
            for number, shard in track(shards, f"{folder.name}: shards", len(missing)):
                shard.save(paths[number])
                print(f"{paths[number].name}: {shard.summary}", flush=True)
        return paths
