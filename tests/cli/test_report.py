"""``opera-env report``: the page, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from opera_env.cli import main
from opera_env.evaluation.results import format_line, read_results

AGENTS, REWARD = "untouched,single:unet.denoise", "tests.own_rewards:BRIGHT"


@pytest.fixture(scope="module")
def results(photos: Path, small_toolbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two agents on one sample of each combination."""
    target = tmp_path_factory.mktemp("report") / "results.jsonl"
    words = f"evaluate --benchmark groups-abc --hq {photos} --canvas 64 --n 1 --toolboxes {small_toolbox}"
    options = ["--agents", AGENTS, "--reward", REWARD, "--device", "cpu"]
    assert main([*words.split(), *options, "--out", str(target)]) == 0
    return target


def report(results: Path | str, photos: Path, toolbox: Path, *more: object) -> int:
    words = f"report {results} --hq {photos} --canvas 64 --toolboxes {toolbox} --device cpu"
    return main([*words.split(), "--reward", REWARD, *map(str, more)])


def test_the_page_has_results_images_and_curves(
    results: Path, photos: Path, small_toolbox: Path, tmp_path: Path
) -> None:
    writer = SummaryWriter(str(tmp_path / "run"))
    writer.add_scalar("val/reward", 1.0, 0)
    writer.add_scalar("val/reward", 2.0, 1)
    writer.close()
    page = tmp_path / "page.html"
    sources = f"{results} {tmp_path / 'run'}"
    assert report(sources, photos, small_toolbox, "--count", 2, "-o", page) == 0
    html = page.read_text()
    assert html.count("<article") == 2 and "data:image/webp" in html
    assert "val/reward" in html and "single:unet.denoise" in html
    assert len(html) < 20e6


def test_without_images_no_photographs_and_no_tools_are_needed(results: Path, tmp_path: Path) -> None:
    assert main(["report", str(results), "--count", "0", "-o", str(tmp_path / "page.html")]) == 0
    assert "<article" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--agent", "plannr"], 2, "untouched, single:unet.denoise"),
        (["--out", "TAKEN"], 1, "replace it with --force"),
    ],
)
def test_errors_name_the_remedy(
    results: Path,
    photos: Path,
    small_toolbox: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    says: str,
) -> None:
    taken = tmp_path / "taken.html"
    taken.write_text("mine")
    words = [word.replace("TAKEN", str(taken)) for word in more]
    out = [] if "--out" in words else ["--out", str(tmp_path / "new.html")]
    assert report(results, photos, small_toolbox, *words, *out, "--count", 0) == code
    assert says in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]
    assert taken.read_text() == "mine"


def test_results_of_other_tools_have_no_images(
    results: Path, photos: Path, small_toolbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    changed = tmp_path / "changed.jsonl"
    rows = [replace(row, fingerprint="another") for row in read_results(results)]
    changed.write_text("\n".join(map(format_line, rows)))
    page = tmp_path / "page.html"
    assert report(changed, photos, small_toolbox, "-o", page) == 1
    assert "its tools have changed" in " ".join(capsys.readouterr().err.split())
    assert not page.exists()
    assert json.loads(changed.read_text().splitlines()[0])["fingerprint"] == "another"


def test_a_reward_that_only_the_file_names_is_not_run(
    results: Path, photos: Path, small_toolbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"report {results} --hq {photos} --canvas 64 --toolboxes {small_toolbox} --device cpu"
    assert main([*words.split(), "-o", str(tmp_path / "page.html")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"the reward '{REWARD}', whose code runs only if you name it: give --reward {REWARD}" in said
    assert not (tmp_path / "page.html").exists()
