"""Results that exist, are incomplete, are being made by another process, or have been removed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from opera_env.cli.jobs import RestoreJob
from opera_env.cli.restore_photograph import PhotographRestorer
from opera_env.cli.results import claim_result, has_result, mark_removed, remove_all_leftovers
from opera_env.data.read import read_photo
from opera_env.errors import OutputError
from opera_env.leftovers import make_claim_name, make_part_name
from tests.every_instruction import signal_at_every_instruction

PLAN = "brighten.gamma_correction"
Draw = Callable[[int, int, int], Image.Image]


def test_an_interrupted_run_that_left_an_empty_file_is_resumed(run: Any) -> None:
    """As a power loss leaves it; there is nothing in it that could be lost."""
    run.out.mkdir()
    (run.out / "a.png").touch()
    code, records = run.report("--plan", PLAN, "--skip-existing")
    assert (code, [record["status"] for record in records]) == (0, ["restored", "restored"])
    assert read_photo(run.out / "a.png").size == (24, 32)


@pytest.mark.parametrize(
    "content", [b"\0" * 500, b"\x89PNG\r\n\x1a\n", b"mine"], ids=["zeros", "cut", "text"]
)
def test_a_file_that_is_no_image_does_not_count_as_a_result(content: bytes, run: Any) -> None:
    run.out.mkdir()
    (run.out / "a.png").write_bytes(content)
    code, (first, second) = run.report("--plan", PLAN, "--skip-existing")
    assert (code, first["status"], second["status"]) == (1, "failed", "restored")
    assert "delete it, or replace it with --force" in first["error"]
    assert (run.out / "a.png").read_bytes() == content, "it may be the user's"
    code, records = run.report("--plan", PLAN, "--skip-existing", "--force")
    assert (code, [record["status"] for record in records]) == (0, ["restored", "skipped"])


def test_a_result_of_another_size_does_not_count(run: Any) -> None:
    assert run.restore("--plan", PLAN) == 0
    code, records = run.report("--plan", PLAN, "--scale", "2", "--skip-existing")
    assert code == 1
    assert "has 32 x 24 pixels, expected 64 x 48" in records[0]["error"]
    code, records = run.report("--plan", PLAN, "--scale", "2", "--skip-existing", "--force")
    assert [record["status"] for record in records] == ["restored", "restored"]


def test_a_turned_photograph_has_an_upright_result(run: Any) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = run.folder / "turned.jpg"
    Image.new("RGB", (40, 20), "gray").save(path, exif=exif)
    assert run.restore("--plan", PLAN, inputs=[path]) == 0
    assert has_result(RestoreJob(path, run.out / "turned.jpg"), 1)
    assert not has_result(RestoreJob(path, run.out / "absent.jpg"), 1)


def test_a_claim_is_exclusive_and_leaves_nothing(tmp_path: Path) -> None:
    job = RestoreJob(tmp_path / "a.png", tmp_path / "out" / ("a" * 250 + ".png"))
    other = RestoreJob(tmp_path / "b.png", tmp_path / "out" / "b.png")
    with claim_result(job) as first, claim_result(job) as second, claim_result(other) as another:
        assert (first, second, another) == (True, False, True)
        assert len(list(job.output_path.parent.iterdir())) == 2
    assert list(job.output_path.parent.iterdir()) == []
    with claim_result(job) as again:
        assert again


def test_a_signal_at_any_instruction_leaves_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restoring itself is left out; its files are those of atomic writes."""
    job = RestoreJob(tmp_path / "a.png", tmp_path / "out" / "a.png")
    monkeypatch.setattr(PhotographRestorer, "_has_result", lambda self, job: False)
    monkeypatch.setattr(PhotographRestorer, "_restore", lambda self, job: {"status": "restored"})
    unused: Any = None
    photographs = PhotographRestorer(unused, unused, frozenset())

    def check() -> None:
        assert not list(tmp_path.rglob("*.claim"))

    restore = partial(photographs._restore_missing, job)
    # Every one of some 8000 instructions would take half a minute.
    assert signal_at_every_instruction(signal.SIGTERM, restore, check, stride=59) > 1000


@pytest.mark.parametrize("is_finished", [True, False])
def test_the_claim_of_a_killed_process_is_removed_by_the_next_run(is_finished: bool, run: Any) -> None:
    """It may have been killed after it had written the result."""
    if is_finished:
        assert run.restore("--plan", PLAN) == 0
    run.out.mkdir(exist_ok=True)
    (run.out / make_claim_name("a.png")).touch()
    assert run.restore("--plan", PLAN, "--skip-existing") == 0
    assert sorted(path.name for path in run.out.iterdir()) == ["a.png", "b.jpg"]


def test_a_file_system_without_locks_is_no_failure(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    assert run.restore("--plan", PLAN, "--skip-existing") == 0
    assert run.results() == ["a.png", "b.jpg"]


def test_a_photograph_that_another_process_restores_is_skipped(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with claim_result(RestoreJob(run.folder / "a.png", run.out / "a.png")):
        code, records = run.report("--plan", PLAN, "--skip-existing")
    assert (code, [record["status"] for record in records]) == (0, ["skipped", "restored"])
    assert "a.png: skipped, because another process is restoring it" in capsys.readouterr().err
    assert run.results() == ["b.jpg"]


@pytest.mark.parametrize("moment", ["before the claim", "while it is restored"])
def test_a_result_that_appears_meanwhile_is_kept_and_no_failure(
    moment: str, run: Any, make_photograph: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is possible where locks are not shared, as between machines."""
    theirs = run.folder.parent / "theirs.png"
    make_photograph(24, 32, 9).save(theirs)

    def finish(target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(theirs, target)

    @contextmanager
    def claim(job: RestoreJob) -> Iterator[bool]:
        finish(job.output_path)
        with claim_result(job) as claimed:
            yield claimed

    def read(path: Path) -> Any:
        finish(run.out / path.name)
        return read_photo(path)

    if moment == "before the claim":
        monkeypatch.setattr("opera_env.cli.restore_photograph.claim_result", claim)
    else:
        monkeypatch.setattr("opera_env.cli.restore_photograph.read_photo", read)
    code, (record,) = run.report("--plan", PLAN, "--skip-existing", inputs=[run.folder / "a.png"])
    assert (code, record["status"], record["reason"]) == (0, "skipped", f"{run.out / 'a.png'} exists")
    assert (run.out / "a.png").read_bytes() == theirs.read_bytes()
    assert run.results() == ["a.png"]


def test_a_comparison_without_its_result_is_replaced_when_a_run_is_resumed(run: Any) -> None:
    """It is written first, so that no result can be left without it."""
    run.out.mkdir()
    (run.out / "a.png.compare.jpg").write_text("of an interrupted run")
    assert run.restore("--plan", PLAN, "--compare", "--skip-existing", inputs=[run.folder / "a.png"]) == 0
    assert (run.out / "a.png.compare.jpg").read_bytes().startswith(b"\xff\xd8")


def test_a_result_that_cannot_be_written_leaves_no_comparison(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> Any:
        run.out.mkdir(exist_ok=True)
        (run.out / path.name).write_text("theirs")
        return read_photo(path)

    monkeypatch.setattr("opera_env.cli.restore_photograph.read_photo", read)
    assert run.restore("--plan", PLAN, "--compare", inputs=[run.folder / "a.png"]) == 1
    assert run.results() == ["a.png"] and (run.out / "a.png").read_text() == "theirs"


def test_results_that_were_removed_during_the_run_are_named(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path) -> Any:
        if path.name == "b.jpg":
            shutil.rmtree(run.out)
        return read_photo(path)

    monkeypatch.setattr("opera_env.cli.restore_photograph.read_photo", read)
    code, records = run.report("--plan", PLAN)
    assert (code, [record["status"] for record in records]) == (1, ["failed", "restored"])
    assert records[0]["error"].startswith(
        f"{run.folder / 'a.png'}: {run.out / 'a.png'} was written, but is gone"
    )
    assert capsys.readouterr().err.splitlines()[-2:] == ["1 restored, 1 failed", f"  {records[0]['error']}"]


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_only_written_results_can_be_removed(status: str, tmp_path: Path) -> None:
    records = [{"input": "a.png", "output": str(tmp_path / "a.png"), "status": status}]
    assert mark_removed(records) == []
    assert records[0]["status"] == status


def test_leftovers_are_removed_from_all_output_folders(tmp_path: Path) -> None:
    old = []
    for folder in ("one", "one/two"):
        (tmp_path / folder).mkdir()
        old.append(tmp_path / folder / f".{'0' * 32}.part")
        old[-1].touch()
    mine = tmp_path / "one" / make_part_name()
    mine.touch()

    for path in old:
        os.utime(path, (0, 0))
    jobs = [
        RestoreJob(Path("a.png"), tmp_path / name) for name in ("one/a.png", "one/two/a.png", "none/a.png")
    ]
    remove_all_leftovers(jobs)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_result_that_cannot_be_read_names_its_remedy(run: Any) -> None:
    run.out.mkdir()
    (run.out / "a.png").write_text("mine")
    with pytest.raises(OutputError, match=r"a\.png: .*delete it, or replace it with --force"):
        has_result(RestoreJob(run.folder / "a.png", run.out / "a.png"), 1)
