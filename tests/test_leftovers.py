"""Temporary files of killed processes are removed, and those of running processes are not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opera_env.files import atomic_write
from opera_env.leftovers import make_claim_name, make_part_name, remove_leftovers

DAY = 24 * 3600
OLD_NAME = f".{'0' * 32}.part"
"""As earlier versions named them, without the process."""


def make(path: Path, age: float = 0.0) -> Path:
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", "pass"])
    process.wait()
    return process.pid


def name_of(process: int) -> str:
    return make_part_name().replace(f"-{os.getpid()}-", f"-{process}-")


def test_a_part_of_an_ended_process_is_removed_at_once(tmp_path: Path) -> None:
    make(tmp_path / name_of(ended_process()))
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_running_process_stays_however_old(tmp_path: Path) -> None:
    mine = make(tmp_path / make_part_name(), age=3 * DAY)
    parent = make(tmp_path / name_of(os.getppid()))
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {mine, parent}


@pytest.mark.parametrize(
    "name",
    [f".01234567-{2**22}-{'a' * 32}.part", OLD_NAME, make_claim_name("a.png")],
    ids=["other", "old", "claim"],
)
def test_files_of_unknown_processes_are_removed_after_a_day(name: str, tmp_path: Path) -> None:
    """Process ids of another machine that writes to the same folder say nothing here."""
    path = make(tmp_path / name, age=0.9 * DAY)
    remove_leftovers(tmp_path)
    assert path.exists()
    make(path, age=1.1 * DAY)
    remove_leftovers(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a.png", ".hidden", "film.part", ".film.part", ".abc.claim", ".0.part"])
def test_other_files_stay(name: str, tmp_path: Path) -> None:
    path = make(tmp_path / name, age=9 * DAY)
    remove_leftovers(tmp_path)
    assert path.read_bytes() == b"half"


def test_folders_links_and_subfolders_stay(tmp_path: Path) -> None:
    (tmp_path / OLD_NAME).mkdir()
    inner = make(tmp_path / OLD_NAME / OLD_NAME, age=9 * DAY)
    link = tmp_path / OLD_NAME.replace("0", "1")
    link.symlink_to(inner)
    os.utime(link, (0, 0), follow_symlinks=False)
    remove_leftovers(tmp_path)
    assert inner.exists() and link.is_symlink()


def test_a_missing_folder_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "nowhere")
    remove_leftovers(make(tmp_path / "a file"))


def test_temporary_files_of_atomic_writes_have_such_names(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
        other = part.rename(part.with_name(part.name.replace(f"-{os.getpid()}-", f"-{ended_process()}-")))
        remove_leftovers(tmp_path)
        assert not other.exists()
        part.write_text("new")
        remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
