"""Published weight files: from a server or a folder, checked by content, recognised by their hash."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from opera_env.errors import DownloadError, MissingWeightsError, WeightsIntegrityError
from opera_env.weights.paper_files import PAPER_FILES
from opera_env.weights.published import (
    PublishedFile,
    check_free_space,
    fetch_published,
    published_status,
    require_published,
)
from tests.weights.hostile_server import ANSWERS, HostileServer, serve

BODY = b"weights of the right network " * 10_000
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileServer]:
    with serve(BODY) as httpd:
        yield httpd


@pytest.fixture
def file() -> PublishedFile:
    return PublishedFile(
        name="family.derain",
        filename="derain_155k.pth",
        urls=(),
        page="https://example.org/family",
        licence="MIT",
        megabytes=1,
        aliases=("family_derain.pth",),
        task="derain",
    )


def check(file: PublishedFile, path: Path) -> None:
    """Stands for the check of the tensors, which may be right although the hash is another one."""
    if not path.read_bytes().startswith(b"weights of the right"):
        raise WeightsIntegrityError(path, f"the network of {file.name}", "another one")


@pytest.mark.parametrize("answer", ["good", "redirect", "cut", "cut-once-without-ranges"])
def test_a_file_is_downloaded_and_its_hash_recorded(
    hostile: HostileServer, file: PublishedFile, answer: str
) -> None:
    """``cut`` ends the connection twice: the file comes in three parts."""
    with pytest.raises(MissingWeightsError, match=r"opera-env weights fetch family\.derain"):
        require_published(file)
    hostile.asked.clear()
    path = fetch_published(replace(file, urls=(hostile.url(answer),)), check)
    assert path.read_bytes() == BODY and path == require_published(file)
    assert file.record.read_text() == f"{SHA256}  derain_155k.pth\n"
    assert sorted(path.parent.iterdir()) == [file.path, file.record]
    assert hostile.asked[answer] == {"cut": 3, "cut-once-without-ranges": 2}.get(answer, 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("nowhere", "404"), ("page", "expected the network of family.derain, received a web page")],
)
def test_what_is_not_the_file_is_refused(
    hostile: HostileServer, file: PublishedFile, answer: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "nowhere", lambda handler: handler.head(404, Content_Length=0))
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch_published(replace(file, urls=(hostile.url(answer),)), check)
    assert "\n" not in str(caught.value)
    assert published_status(file) == "missing" and not file.record.exists()


def test_another_file_is_refused_after_the_first_fetch(hostile: HostileServer, file: PublishedFile) -> None:
    online = replace(file, urls=(hostile.url("good"),))
    file.path.parent.mkdir(parents=True)
    file.record.write_text(f"{'0' * 64}  derain_155k.pth\n")
    with pytest.raises(DownloadError, match=rf"{'0' * 64} \(recorded .*{SHA256}"):
        fetch_published(online, check)
    file.record.unlink()
    fetch_published(online, check)
    file.path.write_bytes(BODY + b".")
    assert published_status(file) == "damaged"
    with pytest.raises(
        WeightsIntegrityError, match=r"recorded.*--force.*delete .*derain_155k\.pth\.sha256"
    ):
        require_published(file)
    fetch_published(online, check)
    assert published_status(file) == "present"


def test_a_hash_of_the_publisher_is_preferred(hostile: HostileServer, file: PublishedFile) -> None:
    online = replace(file, urls=(hostile.url("good"),), sha256="0" * 64)
    with pytest.raises(DownloadError, match=f"expected sha256 {'0' * 64}"):
        fetch_published(online, check)
    fetch_published(replace(online, sha256=SHA256), check)
    assert not file.record.exists()


def test_a_file_without_address_is_fetched_by_hand(file: PublishedFile) -> None:
    with pytest.raises(DownloadError, match=r"https://example\.org/family.*fetch paper --from FOLDER"):
        fetch_published(file, check)


@pytest.mark.parametrize(
    "place",
    [
        "derain_155k.pth",
        "a/b/family_derain.pth",
        "derain/net_g_latest.pth",
        "X_Derain/models/net_g_latest.pth",
    ],
)
def test_a_folder_may_use_any_known_name(file: PublishedFile, tmp_path: Path, place: str) -> None:
    source = tmp_path / "shared" / place
    source.parent.mkdir(parents=True)
    source.write_bytes(BODY)
    fetch_published(file, check, tmp_path / "shared")
    assert require_published(file).read_bytes() == BODY == source.read_bytes()
    assert file.record.read_text().startswith(SHA256)


def test_a_folder_without_the_file_says_what_was_expected(file: PublishedFile, tmp_path: Path) -> None:
    for place in ("net_g_latest.pth", "deblur/net_g_latest.pth", "1/2/3/4/5/derain_155k.pth", "other.pth"):
        (tmp_path / "shared" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shared" / place).write_bytes(BODY)
    expected = r"derain_155k\.pth, family_derain\.pth, or net_g_latest\.pth in a folder with 'derain'.*none"
    with pytest.raises(DownloadError, match=expected):
        fetch_published(file, check, tmp_path / "shared")


def test_two_different_files_of_one_name_are_refused(file: PublishedFile, tmp_path: Path) -> None:
    for place, content in (("a", BODY), ("b", BODY), ("c", BODY + b".")):
        (tmp_path / place).mkdir()
        (tmp_path / place / file.filename).write_bytes(content)
    with pytest.raises(DownloadError, match=r"different ones: .*a/derain.*b/derain.*c/derain"):
        fetch_published(file, check, tmp_path)
    (tmp_path / "c" / file.filename).unlink()
    assert fetch_published(file, check, tmp_path).read_bytes() == BODY


def test_a_wrong_file_of_a_folder_is_refused(file: PublishedFile, tmp_path: Path) -> None:
    (tmp_path / file.filename).write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"expected the network of family\.derain, found another one"):
        fetch_published(file, check, tmp_path)
    assert not file.path.exists()


def test_a_full_disk(file: PublishedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_free_space([file])
    usage = shutil.disk_usage(tmp_path)._replace(free=900_000)
    monkeypatch.setattr("opera_env.weights.published.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"2 MB are needed .*0 MB are free.*OPERA_ENV_CACHE"):
        check_free_space([file, file])


def test_a_disk_that_fills_up_leaves_nothing_behind(
    file: PublishedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file.filename).write_bytes(BODY)

    def fill_up(source: Path, target: Path) -> None:
        target.write_bytes(BODY[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("opera_env.weights.published.shutil.copyfile", fill_up)
    with pytest.raises(DownloadError, match=r"No space left on device.*make room"):
        fetch_published(file, check, tmp_path)
    assert list(file.path.parent.iterdir()) == []


def test_the_table_of_the_papers_files() -> None:
    assert len(PAPER_FILES) == 16 == len({file.filename for file in PAPER_FILES.values()})
    for name, file in PAPER_FILES.items():
        assert name == file.name and file.licence and file.page.startswith("https://")
        assert all(url.startswith("https://") and url.endswith(file.filename) for url in file.urls)
        assert bool(file.urls) != bool(file.task), "what has no address is brought by hand"
