"""``opera-env restore`` with variants, explanations, eagerness and strength."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from opera_env.cli import main
from opera_env.data.read import read_photo
from tests.cli.conftest import one_error

GREEDY = ("--toolbox", "lite", "--agent", "greedy", "--max-tools", "1")
FIX = ("--toolbox", "lite", "--fix", "low_light")


def test_variants_are_written_beside_the_result_with_a_sheet(run: Any) -> None:
    code, records = run.report(*FIX, "--variants", "2", inputs=[run.folder / "a.png"])
    assert code == 0
    assert run.results() == ["a.png", "a.png.variants.jpg", "a.variant1.png", "a.variant2.png"]
    variants = records[0]["variants"]
    assert [variant["output"] for variant in variants] == [
        str(run.out / "a.variant1.png"),
        str(run.out / "a.variant2.png"),
    ]
    assert variants[0]["score"] >= variants[1]["score"] and variants[0]["plan"] == records[0]["plan"]
    first, best = (read_photo(run.out / name).pixels for name in ("a.variant1.png", "a.png"))
    assert np.array_equal(first, best)
    assert not np.array_equal(first, read_photo(run.out / "a.variant2.png").pixels)
    with Image.open(run.out / "a.png.variants.jpg") as sheet:
        assert sheet.width > 2 * 32 and sheet.height > 2 * 24, "two rows: before, and two variants"


def test_variants_that_exist_are_refused_and_a_failed_result_leaves_none(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.out.mkdir()
    (run.out / "a.variant1.png").write_text("mine")
    assert run.restore(*FIX, "--variants", "1", inputs=[run.folder / "a.png"]) == 1
    assert run.results() == ["a.variant1.png"]
    (run.out / "a.variant1.png").unlink()

    def fail(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("opera_env.cli.restore_photograph.PhotographRestorer._write_result", fail)
    assert run.restore(*FIX, "--variants", "2", inputs=[run.folder / "a.png"]) == 1
    assert run.results() == []


def test_a_variant_never_replaces_another_result(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (run.folder / "a.png").rename(run.folder / "c.png")
    Image.open(run.folder / "c.png").save(run.folder / "c.variant1.png")
    assert run.restore(*FIX, "--variants", "1") == 1
    assert "would both become" in one_error(capsys)


def test_explain_lists_what_was_seen_and_tried(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    args = (*GREEDY, "--explain", "--strength", "auto")
    code, records = run.report(*args, inputs=[run.folder / "a.png"])
    printed = capsys.readouterr().err
    assert code == 0 and "before the cost of 0.1 a tool" in printed
    assert printed.count("(chosen)") == 1 + bool(records[0]["plan"])
    scores = [trial["score"] for trial in records[0]["scores"]]
    assert len(scores) > 10 and f"tried {len(scores)}, best first" in printed
    assert "unchanged" in printed and "unet.denoise" in printed


def test_explain_prints_every_probability(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--toolbox", "lite", "--agent", "detect", "--explain")
    assert run.restore(*args, inputs=[run.folder / "a.png"]) == 0
    printed = capsys.readouterr().err
    assert printed.count("probability of ") == 8
    assert "tried: no plan was scored" in printed


def test_strength_is_recorded_and_mixes(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ("--toolbox", "lite", "--plan", "brighten.constant_shift")
    inputs = [run.folder / "a.png"]
    assert run.report(*plan, "--strength", "0.5", inputs=inputs)[1][0]["strength"] == 0.5
    assert "strength: 0.5 of the result" in capsys.readouterr().err
    before, after = (read_photo(folder / "a.png").pixels.astype(int) for folder in (run.folder, run.out))
    dark = before < 200
    assert np.abs((after - before)[dark] - 20).max() <= 1, "half of 40 levels"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--strength", "1.5"), "--strength 1.5: expected auto, or a number from 0 to 1"),
        (("--plan", "", "--strength", "auto"), "--strength auto: expected a number beside --plan"),
        (("--plan", "", "--variants", "2"), "--variants 2: expected no --plan beside it"),
        (("--fix", "noise", "--eager", "0.8"), "--eager 0.8: expected no --fix beside it"),
        (("--agent", "detect", "--variants", "2"), "--variants 2 needs plans with scores"),
        (("--eager", "1.2"), "--eager"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(
    run: Any, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    command = ["restore", str(run.folder / "a.png"), "-o", str(run.out), "--toolbox", "lite", *args]
    assert main(command) == (1 if "needs" in message else 2)
    assert message in one_error(capsys)
    assert run.results() == []
