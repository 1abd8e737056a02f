"""Work items in worker processes of a local Ray cluster: results, errors, and the death of a worker."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from opera_env.cluster import Cluster, map_on_cluster
from opera_env.errors import (
    ClusterError,
    MissingPackageError,
    OperaError,
    SettingError,
    WeightsIntegrityError,
)

TWO = Cluster(workers=2)


def make_square() -> Callable[[int], tuple[int, int]]:
    return lambda item: (item * item, os.getpid())


def make_fragile(folder: Path, times: int) -> Callable[[int], int]:
    """Returns a function that kills its process at item 3, as often as named."""

    def square(item: int) -> int:
        deaths = len(list(folder.iterdir()))
        if item == 3 and deaths < times:
            (folder / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item

    return square


def make_failing() -> Callable[[int], int]:
    def fail(item: int) -> int:
        raise SettingError("item", item, "another")

    return fail


@pytest.mark.slow
def test_all_items_run_in_other_processes() -> None:
    results = dict(map_on_cluster(TWO, make_square, range(12)))
    assert {item: square for item, (square, _) in results.items()} == {n: n * n for n in range(12)}
    pids = {pid for _, pid in results.values()}
    assert len(pids) == 2 and os.getpid() not in pids


@pytest.mark.slow
def test_nothing_is_lost_if_a_worker_is_killed(tmp_path: Path) -> None:
    results = list(map_on_cluster(TWO, partial(make_fragile, tmp_path, 1), range(8)))
    assert sorted(results) == [(n, n * n) for n in range(8)]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_an_item_that_always_kills_its_worker_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="worker of 3 died 4 times"):
        list(map_on_cluster(TWO, partial(make_fragile, tmp_path, 100), range(8)))


@pytest.mark.slow
def test_an_error_of_an_item_is_raised_as_it_is() -> None:
    with pytest.raises(SettingError, match="another"):
        list(map_on_cluster(TWO, make_failing, range(3)))


def test_a_cluster_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ClusterError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        list(map_on_cluster(Cluster("127.0.0.1:1"), make_square, range(3)))


@pytest.mark.parametrize(
    "error", [SettingError("n", 3, "another"), WeightsIntegrityError("a.pth", "a hash", "another")]
)
def test_errors_come_back_as_they_were(error: OperaError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"opera-env\[ray\]"):
        next(map_on_cluster(TWO, make_square, range(3)))
