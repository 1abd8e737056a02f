"""Arguments of ``opera-env restore``: which files they name, where results go, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from opera_env.cli.jobs import RestoreJob, check_input, check_target, find_jobs, real_path
from opera_env.errors import ImageFileError, OutputError

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes empty files of these names under a folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "in"

    return make


def places(jobs: list[RestoreJob], folder: Path, out: Path) -> dict[str, str]:
    """Returns input and output paths, relative to their folders."""
    return {
        job.input_path.relative_to(folder).as_posix(): job.output_path.relative_to(out).as_posix()
        for job in jobs
    }


OUT = Path("out")


def test_a_file_goes_into_the_folder(tree: Tree) -> None:
    folder = tree("deep/a.png")
    assert find_jobs([str(folder / "deep/a.png")], OUT) == [
        RestoreJob(folder / "deep/a.png", OUT / "a.png")
    ]


def test_a_folder_stands_for_its_images(tree: Tree) -> None:
    folder = tree("b.JPG", "a.png", "c.tiff", ".hidden.png", "notes.txt", "film.gif", "sub/d.png")
    (folder / "folder.png").mkdir()
    (folder / "broken.png").symlink_to("nowhere.png")
    assert places(find_jobs([str(folder)], OUT), folder, OUT) == {
        "a.png": "a.png",
        "b.JPG": "b.JPG",
        "c.tiff": "c.tiff",
    }


def test_a_folder_without_photographs_is_kept_as_a_failure(tree: Tree) -> None:
    """Whatever its name: a folder may be called like a photograph."""
    folder = tree("a.png", "dir.png/notes.txt", "empty/notes.txt")
    named = [folder / "dir.png", folder / "a.png", folder / "empty"]
    jobs = find_jobs([str(path) for path in named], OUT)
    assert [job.input_path for job in jobs] == named
    check_input(jobs[1])
    for job in (jobs[0], jobs[2]):
        with pytest.raises(ImageFileError, match=r"no photographs in this folder; .*subfolders"):
            check_input(job)


def test_a_pattern_without_match_is_called_so(tree: Tree) -> None:
    folder = tree("a[1].png")
    jobs = find_jobs([str(folder / name) for name in ("*.tif", "a[1].png", "b.png")], OUT)
    with pytest.raises(ImageFileError, match=r"\*\.tif: no photograph has a name of this pattern"):
        check_input(jobs[0])
    check_input(jobs[1])
    check_input(jobs[2])  # its absence is noticed when it is read


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png", "b[1].png"]),
        ("**/*.png", ["a.png", "b[1].png", "one/c.png", "one/two/d.png"]),
        ("**", ["a.png", "b[1].png", "e.jpg", "one/c.png", "one/two/d.png"]),
        ("one/**/*.png", ["c.png", "two/d.png"]),
        ("*/c.png", ["one/c.png"]),
        ("[ae].*", ["a.png", "e.jpg"]),
        ("?.png", ["a.png"]),
        ("*[[]1].png", ["b[1].png"]),
    ],
)
def test_patterns_keep_their_subfolders(pattern: str, expected: list[str], tree: Tree) -> None:
    folder = tree("a.png", "b[1].png", "e.jpg", "one/c.png", "one/two/d.png", "one/.e.png", "f.txt")
    jobs = find_jobs([str(folder / pattern)], OUT)
    assert sorted(job.output_path.relative_to(OUT).as_posix() for job in jobs) == expected
    assert all(job.input_path.is_file() for job in jobs)


def test_relative_patterns(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree("a.png", "one/b.png"))
    assert places(find_jobs(["**/*.png"], OUT), Path(), OUT) == {"a.png": "a.png", "one/b.png": "one/b.png"}
    assert places(find_jobs(["./*.png"], OUT), Path(), OUT) == {"a.png": "a.png"}


def test_a_folder_with_brackets_in_its_name_is_no_wildcard(tree: Tree) -> None:
    folder = tree("scans [2020]/a.png", "scans [2020]/sub/b.png", "scans 2/c.png")
    actual = find_jobs([str(folder / "scans [2020]/**/*.png")], OUT)
    assert places(actual, folder / "scans [2020]", OUT) == {"a.png": "a.png", "sub/b.png": "sub/b.png"}
    assert places(find_jobs([str(folder / "scans [2020]")], OUT), folder / "scans [2020]", OUT) == {
        "a.png": "a.png"
    }


def test_a_file_with_brackets_in_its_name_is_no_pattern(tree: Tree) -> None:
    folder = tree("a[1].png", "a1.png")
    actual = find_jobs([str(folder / "a[1].png")], OUT)
    assert places(actual, folder, OUT) == {"a[1].png": "a[1].png"}


def test_patterns_never_leave_the_output_folder(tree: Tree) -> None:
    folder = tree("one/a.png", "b.png")
    assert [job.output_path for job in find_jobs([str(folder / "o*/../*.png")], OUT)] == [OUT / "b.png"]


@pytest.mark.parametrize("word", ["none/*.png", "*.txt", "missing.png", "[z].png"])
def test_an_argument_that_matches_nothing_is_kept_as_a_failure(word: str, tree: Tree) -> None:
    folder = tree("a.png", "notes.txt")
    jobs = find_jobs([str(folder / word), str(folder / "a.png")], OUT)
    assert [job.input_path for job in jobs] == [folder / word, folder / "a.png"]


def test_a_photograph_named_twice_is_restored_once(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree("a.png", "b.png")
    monkeypatch.chdir(folder)
    args = ["a.png", str(folder), "./a.png", "../in/a.png", str(folder / "*.png")]
    assert sorted(job.output_path.name for job in find_jobs(args, OUT)) == ["a.png", "b.png"]


def test_a_photograph_named_through_a_link_too_is_restored_once(tree: Tree, tmp_path: Path) -> None:
    folder = tree("a.png")
    (tmp_path / "link").symlink_to(folder)
    args = [str(folder), str(tmp_path / "link")]
    assert find_jobs(args, OUT) == [RestoreJob(folder / "a.png", OUT / "a.png")]
    assert find_jobs(args, Path("one.png")) == [RestoreJob(folder / "a.png", Path("one.png"))]


def test_a_link_beside_its_file_is_restored_under_both_names(tree: Tree) -> None:
    folder = tree("a.png")
    (folder / "b.png").symlink_to("a.png")
    assert places(find_jobs([str(folder)], OUT), folder, OUT) == {"a.png": "a.png", "b.png": "b.png"}


def test_circular_links_fail_alone(tree: Tree) -> None:
    folder = tree("a.png")
    (folder / "loop.png").symlink_to("loop.png")
    jobs = find_jobs([str(folder / "loop.png"), str(folder / "a.png")], OUT)
    assert [job.input_path.name for job in jobs] == ["loop.png", "a.png"]


@pytest.mark.parametrize(
    ("names", "args", "format"),
    [
        (("one/a.png", "two/a.png"), ("one", "two"), None),
        (("one/a.png", "two/a.png"), ("one/a.png", "two/*.png"), None),
        (("a.png", "a.jpg"), ("",), "TIFF"),
        (("a.jpg", "a.png"), ("",), "JPEG"),
    ],
)
def test_two_results_with_one_name_are_refused(
    names: tuple[str, ...], args: tuple[str, ...], format: str | None, tree: Tree
) -> None:
    folder = tree(*names)
    with pytest.raises(OutputError, match="both become") as error:
        find_jobs([str(folder / word) for word in args], OUT, format)
    assert all(str(folder / name) in str(error.value) for name in names)


def test_a_comparison_has_the_name_of_no_result(tree: Tree) -> None:
    folder = tree("a.png", "a.png.compare.jpg")
    assert len(find_jobs([str(folder)], OUT)) == 2
    with pytest.raises(OutputError, match=r"both become .*a\.png\.compare\.jpg"):
        find_jobs([str(folder)], OUT, compare=True)


def test_out_may_be_a_file_name(tree: Tree, tmp_path: Path) -> None:
    folder = tree("a.png")
    target = tmp_path / "new" / "b.JPG"
    assert find_jobs([str(folder / "a.png")], target) == [RestoreJob(folder / "a.png", target)]
    assert find_jobs([str(folder)], target) == [RestoreJob(folder / "a.png", target)]


def test_out_may_be_a_folder_with_a_suffix(tree: Tree, tmp_path: Path) -> None:
    folder = tree("a.png", "b.png")
    (tmp_path / "out.png").mkdir()
    jobs = find_jobs([str(folder)], tmp_path / "out.png")
    assert [job.output_path for job in jobs] == [tmp_path / "out.png/a.png", tmp_path / "out.png/b.png"]
    assert find_jobs([str(folder / "a.png")], tmp_path / "v1.2")[0].output_path == tmp_path / "v1.2/a.png"


def test_several_photographs_do_not_fit_into_one_file(tree: Tree) -> None:
    with pytest.raises(OutputError, match=r"one\.png is one file, there are 2 photographs"):
        find_jobs([str(tree("a.png", "b.png"))], Path("one.png"))


@pytest.mark.parametrize("name", ["film.gif", "page.PDF", "photo.jp2"])
def test_a_file_name_that_cannot_be_written_is_no_folder(name: str, tree: Tree) -> None:
    with pytest.raises(OutputError, match=r"not written.*\.png"):
        find_jobs([str(tree("a.png"))], Path(name))


def test_out_that_is_another_kind_of_file_is_refused(tree: Tree) -> None:
    folder = tree("a.png", "notes.txt")
    with pytest.raises(OutputError, match=r"notes\.txt is a file"):
        find_jobs([str(folder / "a.png")], folder / "notes.txt")


@pytest.mark.parametrize(
    ("name", "format", "expected"),
    [
        ("a.png", "JPEG", "a.jpg"),
        ("a.jpeg", "JPEG", "a.jpeg"),
        ("a.JPG", "JPEG", "a.JPG"),
        ("a.b.jpg", "PNG", "a.b.png"),
        ("a.bmp", "TIFF", "a.tif"),
        ("a.png", "WEBP", "a.webp"),
        ("a.tiff", None, "a.tiff"),
    ],
)
def test_a_format_replaces_other_suffixes(name: str, format: str | None, expected: str, tree: Tree) -> None:
    assert find_jobs([str(tree(name))], OUT, format)[0].output_path == OUT / expected


@pytest.fixture
def job(tree: Tree, tmp_path: Path) -> RestoreJob:
    return RestoreJob(tree("a.png") / "a.png", tmp_path / "out" / "a.png")


def check(job: RestoreJob, force: bool = False, compare: bool = False) -> None:
    check_target(job, frozenset({real_path(job.input_path)}), force, compare)


def test_a_new_output_path_is_accepted(job: RestoreJob) -> None:
    check(job)
    check(job, compare=True)


@pytest.mark.parametrize("which", ["output_path", "comparison_path"])
def test_existing_files_are_refused_without_force(which: str, job: RestoreJob) -> None:
    taken: Path = getattr(job, which)
    taken.parent.mkdir()
    taken.touch()
    with pytest.raises(OutputError, match=r"exists: --force"):
        check(job, compare=True)
    check(job, force=True, compare=True)
    if which == "comparison_path":
        check(job)


def test_a_dangling_link_counts_as_existing(job: RestoreJob) -> None:
    job.output_path.parent.mkdir()
    job.output_path.symlink_to("nowhere.png")
    with pytest.raises(OutputError, match="exists"):
        check(job)


def test_a_folder_is_not_replaced(job: RestoreJob) -> None:
    job.output_path.mkdir(parents=True)
    with pytest.raises(OutputError, match="is a folder"):
        check(job, force=True)


@pytest.mark.parametrize("kind", ["itself", "symlink", "hard link", "folder link"])
def test_an_input_is_never_overwritten(kind: str, job: RestoreJob) -> None:
    if kind == "itself":
        job = RestoreJob(job.input_path, job.input_path)
    elif kind == "folder link":
        job.output_path.parent.symlink_to(job.input_path.parent)
    else:
        job.output_path.parent.mkdir()
        (os.symlink if kind == "symlink" else os.link)(job.input_path, job.output_path)
    with pytest.raises(OutputError, match="one of the photographs"):
        check(job, force=True)


def test_a_missing_input_does_not_matter(job: RestoreJob) -> None:
    job.output_path.parent.mkdir()
    job.output_path.touch()
    job.input_path.unlink()
    with pytest.raises(OutputError, match="exists"):
        check(job)
