"""Partial results outlive their process, resume exactly, and are neither mixed nor lost by accident."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest

from opera_env.errors import OutputError
from opera_env.evaluation.partial import partial_results

SETTINGS = {"seed": 3, "names": ("a", "b")}


def interrupt(target: Path, **results: object) -> Path:
    """Leaves the results of an interrupted run; returns their file."""
    with pytest.raises(KeyboardInterrupt), partial_results(target, SETTINGS) as partial:
        for key, value in results.items():
            partial.save(key, value)
        raise KeyboardInterrupt
    return target.with_name(f"{target.name}.partial")


def test_results_are_there_again_after_an_interruption(tmp_path: Path) -> None:
    file = interrupt(tmp_path / "deep" / "out.json", first=[1, math.pi], second={"a": None})
    with partial_results(tmp_path / "deep" / "out.json", SETTINGS, resume=True) as partial:
        assert partial.get("first") == [1, math.pi]
        assert partial.get("second") == {"a": None}
        assert partial.get("third") is None
        partial.save("third", 3)
        assert len(file.read_text().splitlines()) == 4
        partial.is_complete = True
    assert not file.exists()


def test_an_interruption_without_results_leaves_no_file(tmp_path: Path) -> None:
    assert not interrupt(tmp_path / "out.json").exists()


def test_the_exception_says_where_the_results_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="why") as caught, partial_results(tmp_path / "a", {}) as partial:
        partial.save("first", 1)
        raise ValueError("why")
    assert caught.value.__notes__ == [
        f"{tmp_path / 'a.partial'} keeps what is finished, --resume continues"
    ]


def test_a_signal_right_after_writing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), partial_results(tmp_path / "a", {}) as partial:
        monkeypatch.setattr("os.fsync", interrupted)
        partial.save("first", 1)
    monkeypatch.undo()
    with partial_results(tmp_path / "a", {}, resume=True) as partial:
        assert partial.get("first") == 1


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught, partial_results(tmp_path / "a", {}) as partial:
        partial.save("first", 1)
        before = (tmp_path / "a.partial").read_bytes()
        monkeypatch.setattr("os.fsync", full)
        partial.save("second", 2)
    assert caught.value.filename == str(tmp_path / "a.partial")
    assert (tmp_path / "a.partial").read_bytes() == before


def test_results_are_neither_resumed_nor_thrown_away_unasked(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    file = interrupt(target, first=1)
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"--resume continues it, --force starts again"):
        partial_results(target, SETTINGS).__enter__()
    with pytest.raises(OutputError, match=r"other settings \(seed\)"):
        partial_results(target, SETTINGS | {"seed": 4}, resume=True).__enter__()
    assert file.read_bytes() == before
    with partial_results(target, SETTINGS, force=True) as partial:
        assert partial.get("first") is None


def test_another_process_cannot_write_the_same_results(tmp_path: Path) -> None:
    with partial_results(tmp_path / "out.json", SETTINGS) as partial:
        partial.save("first", 1)
        for options in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(OutputError, match="another process is writing"):
                partial_results(tmp_path / "out.json", SETTINGS, **options).__enter__()
        partial.is_complete = True


def test_a_line_that_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    file = interrupt(tmp_path / "out.json", first=1, second=2)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with partial_results(tmp_path / "out.json", SETTINGS, resume=True) as partial:
            num_lines = whole[:length].count(b"\n")
            assert (partial.get("first") == 1) == (num_lines >= 2)
            assert partial.get("second") is None
            if partial.get("first") is None:
                partial.save("first", 1)
            partial.save("second", 2)
        assert file.read_bytes() == whole


@pytest.mark.parametrize("change", [b"\x00", b"9", b""], ids=["byte", "digit", "gap"])
def test_damage_is_named(tmp_path: Path, change: bytes) -> None:
    file = interrupt(tmp_path / "out.json", first=1234, second=2)
    file.write_bytes(file.read_bytes().replace(b"123", b"12" + change))
    with pytest.raises(
        OutputError, match=r"out.json.partial is damaged in line 2: start again with --force"
    ):
        partial_results(tmp_path / "out.json", SETTINGS, resume=True).__enter__()
