"""Atomic files: each is complete or absent, and none is lost to another."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from opera_env.files import atomic_create, atomic_write

Writing = Callable[[Path], AbstractContextManager[Path]]

BOTH = pytest.mark.parametrize("writing", [atomic_write, atomic_create])


@pytest.fixture(params=["links", "no links", "links forbidden"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """File systems with and without hard links."""

    def link(source: Path, target: Path) -> None:
        raise (
            OSError(95, "Operation not supported")
            if request.param == "no links"
            else PermissionError(1, "no")
        )

    if request.param != "links":
        monkeypatch.setattr(os, "link", link)
    return request.param


@BOTH
def test_a_written_file_exists_with_its_content(tmp_path: Path, writing: Writing, links: str) -> None:
    target = tmp_path / "new" / "deep" / "a.txt"
    with writing(target) as part:
        assert part.parent == target.parent, "or it could not be renamed"
        assert not part.exists()
        part.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@BOTH
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_no_file(
    tmp_path: Path, writing: Writing, error: type[BaseException]
) -> None:
    with pytest.raises(error), writing(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise error("no")
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_a_failed_write_keeps_the_existing_file(tmp_path: Path, writing: Writing) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ValueError, match="no"), writing(target) as part:
        part.write_text("half")
        raise ValueError("no")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@BOTH
def test_nothing_written_is_an_error(tmp_path: Path, writing: Writing) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as part:
        part.write_text("new")
        assert target.read_text() == "old", "until all is well"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_atomic_create_keeps_an_existing_file(tmp_path: Path, kind: str, links: str) -> None:
    target = tmp_path / "a.txt"
    if kind == "file":
        target.write_text("old")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    with pytest.raises(FileExistsError), atomic_create(target) as part:
        part.write_text("new")
    assert list(tmp_path.iterdir()) == [target]
    assert {"file": target.is_file, "folder": target.is_dir, "dangling link": target.is_symlink}[kind]()
    if kind == "file":
        assert target.read_text() == "old"


def test_a_file_that_appears_meanwhile_is_not_lost(tmp_path: Path, links: str) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(FileExistsError), atomic_create(target) as part:
        part.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_appears_at_the_last_moment_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the failed attempt to link and the renaming that replaces it."""
    target = tmp_path / "a.txt"
    looks = os.path.lexists

    def late(path: Path) -> bool:
        actual = looks(path)
        target.write_text("theirs")
        return actual

    def link(source: Path, target: Path) -> None:
        target.write_text("theirs")
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os.path, "lexists", late)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FileExistsError), atomic_create(target) as part:
        part.write_text("ours")
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_without_links_a_failed_renaming_frees_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError), atomic_create(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_the_content_is_on_the_disk_before_the_file_has_its_name_and_the_name_after(
    tmp_path: Path, writing: Writing, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss leaves the whole file or none, never an empty one."""
    target, written = tmp_path / "a.txt", list[str]()

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        what = "folder" if path == tmp_path else path.read_text()
        written.append(f"{what}, {'named' if target.exists() else 'not named'}")

    monkeypatch.setattr(os, "fsync", fsync)
    with writing(target) as part:
        part.write_text("content")
    assert written == ["content, not named", "folder, named"]


@BOTH
def test_a_disk_that_fails_to_write_leaves_no_file(
    tmp_path: Path, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"Input/output error.*a\.txt"), writing(tmp_path / "a.txt") as part:
        part.write_text("content")
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_a_file_system_that_cannot_write_folders_is_good_enough(
    tmp_path: Path, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir():
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    with writing(tmp_path / "a.txt") as part:
        part.write_text("content")
    assert (tmp_path / "a.txt").read_text() == "content"


@BOTH
def test_a_file_in_place_of_the_folder_is_not_taken_for_the_target(
    tmp_path: Path, writing: Writing
) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(NotADirectoryError, match="folder"), writing(tmp_path / "folder" / "a.txt"):
        pass
    assert (tmp_path / "folder").read_text() == "a file"


@BOTH
def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path, writing: Writing) -> None:
    """The system does not say which file a failed write was for, and nobody knows temporary names."""
    target = tmp_path / "a.txt"
    full = pytest.raises(OSError, match=r"File too large: '.*a\.txt'")
    with full as raised, writing(target) as part, _largest_file(10), part.open("wb") as file:
        file.write(bytes(100))
        file.flush()
    assert raised.value.filename == str(target)
    with pytest.raises(FileNotFoundError, match=r"a\.txt"), writing(target) as part:
        part.read_bytes()
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_modes_of_new_files_follow_the_umask(tmp_path: Path, writing: Writing) -> None:
    before = os.umask(0o027)
    try:
        with writing(tmp_path / "a.txt") as part:
            part.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Limits the size of files that this process writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
