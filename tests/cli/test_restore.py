"""``opera-env restore``: files that are written, files that are refused, and what is printed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from opera_env.cli import main
from opera_env.cli.restore_report import format_record
from opera_env.data.read import read_photo
from opera_env.tools import Toolbox

PLAN = "brighten.gamma_correction"
DRAWN = ("brighten.gamma_correction", "brighten.constant_shift")

Draw = Callable[[int, int, int], Image.Image]


def test_a_folder_is_restored(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, records = run.report("--plan", f"{PLAN}, brighten.constant_shift", "--toolbox", "lite")
    assert code == 0
    assert run.results() == ["a.png", "b.jpg"]
    assert read_photo(run.out / "a.png").pixels.mean() > read_photo(run.folder / "a.png").pixels.mean()
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    source, target = run.folder / "a.png", run.out / "a.png"
    assert lines[0].startswith(f"{source} (32 x 24): {PLAN} 0.")
    assert " s > brighten.constant_shift 0." in lines[0]
    assert lines[0].endswith(f" s -> {target}")
    assert lines[-1] == "2 restored"
    assert records[0]["plan"] == [PLAN, "brighten.constant_shift"]
    assert len(records[0]["tool_seconds"]) == 2
    assert (records[0]["input"], records[0]["output"]) == (str(source), str(target))
    assert (records[0]["size"], records[0]["result_size"]) == ([32, 24], [32, 24])
    assert records[0]["agent"] is None


def test_subfolders_of_a_pattern_are_kept(run: Any, make_photograph: Draw) -> None:
    (run.folder / "deep/er").mkdir(parents=True)
    make_photograph(16, 16, 2).save(run.folder / "deep/er/c.png")
    assert run.restore("--plan", PLAN, inputs=[run.folder / "**/*.png"]) == 0
    written = [path for path in run.out.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(run.out).as_posix() for path in written) == [
        "a.png",
        "deep/er/c.png",
    ]


def test_out_as_a_file_name(run: Any) -> None:
    target = run.out / "deep" / "night.webp"
    assert main(["restore", str(run.folder / "a.png"), "-o", str(target), "--plan", PLAN]) == 0
    assert read_photo(target).format == "WEBP"


def test_an_existing_result_is_refused_and_kept(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run.out.mkdir()
    (run.out / "a.png").write_text("mine")
    assert run.restore("--plan", PLAN) == 1
    assert (run.out / "a.png").read_text() == "mine"
    assert run.results() == ["a.png", "b.jpg"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert str(run.folder / "a.png") in last
    assert f"{run.out / 'a.png'} exists" in last


def test_force_replaces_an_existing_result(run: Any) -> None:
    run.out.mkdir()
    (run.out / "a.png").write_text("mine")
    assert run.restore("--plan", PLAN, "--force") == 0
    assert read_photo(run.out / "a.png").size == (24, 32)


def test_skip_existing_resumes_an_interrupted_run(run: Any) -> None:
    assert run.restore("--plan", PLAN, inputs=[run.folder / "a.png"]) == 0
    before = (run.out / "a.png").stat()
    code, records = run.report("--plan", PLAN, "--skip-existing", "--force")
    assert code == 0
    assert [record["status"] for record in records] == ["skipped", "restored"]
    after = (run.out / "a.png").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("args", [["--force"], ["--skip-existing"], ["--force", "--skip-existing"], []])
@pytest.mark.parametrize("way", ["the same folder", "a link to it", "by name"])
def test_an_input_is_never_overwritten(way: str, args: list[str], run: Any) -> None:
    inputs, out = [run.folder], run.folder
    if way == "a link to it":
        out = run.out
        out.symlink_to(run.folder)
    elif way == "by name":
        inputs, out = [run.folder / "a.png"], run.folder / "a.png"
    held = {path: path.read_bytes() for path in run.folder.iterdir()}
    assert replace(run, out=out).restore("--plan", PLAN, *args, inputs=inputs) == 1
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == held


def test_another_input_of_the_run_is_never_overwritten(run: Any, make_photograph: Draw) -> None:
    run.out.mkdir()
    make_photograph(16, 16, 5).save(run.out / "a.png")
    held = (run.out / "a.png").read_bytes()
    inputs = [run.folder / "a.png", run.out / "a.png"]
    assert run.restore("--plan", PLAN, "--force", inputs=inputs) == 1
    assert (run.out / "a.png").read_bytes() == held


def add_bad_files(folder: Path) -> list[str]:
    """Files that cannot be restored: empty, cut short, no image."""
    whole = (folder / "a.png").read_bytes()
    bad = {"0.png": b"", "cut.png": whole[: len(whole) // 2], "no.jpg": b"hello"}
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    return sorted(bad)


MISLABELLED = {
    "png.jpg": ("PNG", {}, "JPEG"),
    "webp.jpg": ("WEBP", {"quality": 90}, "JPEG"),
    "jpeg.png": ("JPEG", {"quality": 90}, "PNG"),
    "tiff.webp": ("TIFF", {}, "WEBP"),
    "bmp.tif": ("BMP", {}, "TIFF"),
}
"""By file name: content, how it is encoded, and the format of the result."""


@pytest.mark.parametrize("name", MISLABELLED)
@pytest.mark.parametrize("plan", [PLAN, ""])
def test_a_photograph_with_the_wrong_suffix_is_restored_with_a_notice(
    name: str, plan: str, run: Any, make_photograph: Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    content, options, written = MISLABELLED[name]
    path = run.folder / name
    make_photograph(24, 32, 3).save(path, content, **options)
    code, (record,) = run.report("--plan", plan, inputs=[path])
    assert code == 0 and record["status"] == ("restored" if plan else "converted")
    assert (": converted -> " in format_record(record)) == (not plan)
    notice = f"its name says {written}, its content is {content}; the result is {written}"
    assert record["notices"] == [notice]
    assert f"note: {notice}" in capsys.readouterr().err
    result = read_photo(Path(record["output"]))
    assert result.format == written and result.notices == ()
    assert result.size == (24, 32)


def test_what_the_format_of_the_name_cannot_store_is_named(run: Any) -> None:
    path = run.folder / "transparent.jpg"
    Image.new("RGBA", (16, 16), (200, 100, 50, 128)).save(path, "PNG")
    code, (record,) = run.report("--plan", PLAN, inputs=[path])
    assert code == 0
    assert record["notices"] == [
        "its name says JPEG, its content is PNG; the result is JPEG",
        "JPEG holds no transparency",
    ]


@pytest.mark.parametrize("name", ["holiday", "holiday.txt", "holiday.gif"])
def test_a_result_gets_the_suffix_of_its_content_if_the_name_has_none_of_a_photograph(
    name: str, run: Any, make_photograph: Draw
) -> None:
    """Unchanged, it is a copy of the file; the notice stays."""
    path = run.folder / name
    make_photograph(24, 32, 3).save(path, "JPEG")
    code, (record,) = run.report("--plan", "", inputs=[path])
    assert code == 0 and record["status"] == "unchanged"
    assert record["output"] == str(run.out / "holiday.jpg")
    assert (run.out / "holiday.jpg").read_bytes() == path.read_bytes()
    assert record["notices"] == [
        "its name says no format that is known here, its content is JPEG; the result is JPEG"
    ]


def test_bad_files_do_not_stop_a_batch(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bad = add_bad_files(run.folder)
    code, records = run.report("--plan", PLAN, inputs=[run.folder, run.folder / "none*.png"])
    assert code == 1
    assert run.results() == ["a.png", "b.jpg"]
    failed = [record for record in records if record["status"] == "failed"]
    names = [str(run.folder / name) for name in (*bad, "none*.png")]
    assert sorted(record["input"] for record in failed) == sorted(names)
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    summary = printed.splitlines()[-len(names) - 1 :]
    assert summary[0] == f"2 restored, {len(names)} failed"
    for name, record, line in zip(
        sorted(names), sorted(failed, key=lambda record: record["input"]), sorted(summary[1:]), strict=True
    ):
        assert line == f"  {record['error']}"
        assert record["error"].startswith(f"{name}: ")


def test_the_empty_plan_copies_the_file_unchanged(run: Any, make_photograph: Draw) -> None:
    make_photograph(16, 16, 2).save(
        run.folder / "film.webp", save_all=True, append_images=[make_photograph(16, 16, 3)]
    )
    code, records = run.report("--plan", "")
    assert code == 0
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == {
        path.name: path.read_bytes() for path in run.out.iterdir()
    }
    assert {record["status"] for record in records} == {"unchanged"}
    assert all(record["notices"] == [] for record in records)


def test_the_empty_plan_needs_force_to_replace_a_result(run: Any) -> None:
    run.out.mkdir()
    (run.out / "a.png").write_text("mine")
    assert run.restore("--plan", "") == 1
    assert (run.out / "a.png").read_text() == "mine"
    assert run.restore("--plan", "", "--force") == 0
    assert (run.out / "a.png").read_bytes() == (run.folder / "a.png").read_bytes()


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "bmp"])
def test_the_empty_plan_converts(kind: str, run: Any) -> None:
    code, records = run.report("--plan", "", "--format", kind)
    assert code == 0
    assert {record["status"] for record in records} <= {"converted", "unchanged"}
    for record in records:
        written = read_photo(record["output"])
        assert written.format == kind.upper()
        assert written.size == read_photo(record["input"]).size
        if kind in ("png", "tiff", "bmp"):
            assert (written.pixels == read_photo(record["input"]).pixels).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("plan", ["", PLAN, "unet.super_resolution", f"{PLAN},unet.super_resolution"])
def test_scale_enlarges(plan: str, scale: int, run: Any) -> None:
    code, records = run.report("--plan", plan, "--scale", str(scale), inputs=[run.folder / "a.png"])
    assert code == 0
    assert read_photo(run.out / "a.png").size == (24 * scale, 32 * scale)
    assert records[0]["result_size"] == [32 * scale, 24 * scale]
    assert records[0]["status"] == ("restored" if plan else "converted")


def test_an_enlarging_tool_keeps_the_size_at_scale_one(run: Any) -> None:
    assert run.restore("--plan", "unet.super_resolution", inputs=[run.folder / "a.png"]) == 0
    assert read_photo(run.out / "a.png").size == (24, 32)


def test_a_comparison_shows_before_and_after(run: Any) -> None:
    assert run.restore("--plan", PLAN, "--compare") == 0
    assert run.results() == ["a.png", "a.png.compare.jpg", "b.jpg", "b.jpg.compare.jpg"]
    with Image.open(run.out / "a.png.compare.jpg") as strip:
        assert strip.format == "JPEG"
        assert strip.width > 2 * 32
        assert strip.height > 24
        pixels = np.asarray(strip.convert("L"), np.float64)[-20:]
    before, after = pixels[:, :32], pixels[:, pixels.shape[1] // 2 :]
    assert after.mean() > before.mean() + 2


def test_a_comparison_is_not_overwritten(run: Any) -> None:
    run.out.mkdir()
    strip = run.out / "a.png.compare.jpg"
    strip.write_text("mine")
    assert run.restore("--plan", PLAN, "--compare", inputs=[run.folder / "a.png"]) == 1
    assert strip.read_text() == "mine"
    assert run.results() == [strip.name]
    assert run.restore("--plan", PLAN, "--compare", "--force", inputs=[run.folder / "a.png"]) == 0
    assert strip.read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 34000), (1500, 3)])
def test_comparisons_of_extreme_shapes(height: int, width: int, run: Any) -> None:
    Image.new("RGB", (width, height), "gray").save(run.folder / "a.png")
    assert run.restore("--plan", PLAN, "--compare", inputs=[run.folder / "a.png"]) == 0
    with Image.open(run.out / "a.png.compare.jpg") as strip:
        strip.load()
        assert strip.height <= 720 + 32
        assert strip.width <= 2 * 4096 + 32


def test_a_grey_profile_is_not_written_to_a_coloured_comparison(run: Any) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("L", (20, 20), 90).save(run.folder / "a.png", icc_profile=profile)
    Image.new("RGB", (20, 20), "gray").save(run.folder / "b.jpg", icc_profile=profile)
    assert run.restore("--plan", PLAN, "--compare") == 0
    with Image.open(run.out / "a.png.compare.jpg") as strip:
        assert "icc_profile" not in strip.info
    with Image.open(run.out / "b.jpg.compare.jpg") as strip:
        assert strip.info["icc_profile"] == profile


def test_standard_output_has_only_json(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    add_bad_files(run.folder)
    assert run.restore("--plan", PLAN, "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert set(summary) == {"toolbox", "versions", "photographs"}
    assert summary["toolbox"]["name"] == "lite-cotrained"
    assert summary["toolbox"]["fingerprint"] == Toolbox.load("lite-cotrained").fingerprint
    assert len(summary["photographs"]) == 5


def test_a_progress_bar_goes_to_standard_error(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take the pipe for a terminal
    assert run.restore("--plan", PLAN, "--json") == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["photographs"]) == 2
    assert "━" in printed.err
    assert "photographs" in printed.err


def test_a_line_break_in_a_name_is_not_printed(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.folder / "two\nlines.png"
    path.write_bytes(b"no image")
    code, records = run.report("--plan", PLAN, inputs=[path])
    assert code == 1
    assert records[0]["input"] == str(path)
    assert records[0]["error"].startswith(f"{run.folder}/two lines.png: damaged")
    assert capsys.readouterr().err.count("\n") == 1


def test_notices_are_printed(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    clear = Image.new("RGBA", (20, 10), (90, 80, 70, 128))
    clear.save(run.folder / "c.png")
    source = run.folder / "c.png"
    code, records = run.report("--plan", PLAN, "--format", "jpeg", inputs=[source])
    assert code == 0
    assert records[0]["notices"] == ["JPEG holds no transparency"]
    assert "note: JPEG holds no transparency" in capsys.readouterr().err


def test_debug_prints_tracebacks(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bad = add_bad_files(run.folder)
    assert run.restore("--plan", PLAN, "--debug") == 1
    assert run.results() == ["a.png", "b.jpg"]
    assert capsys.readouterr().err.count("Traceback") >= len(bad)


def _as_rgb16(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", ["rgb16", "rgba16", "grey16", "grey8", "grey_alpha8", "rgba8"])
def test_bits_alpha_and_mode_are_kept(kind: str, scale: int, run: Any) -> None:
    rng = np.random.default_rng(7)
    path = run.folder / "kept.png"
    channels = {"rgb": 3, "rgba": 4, "grey": 1, "grey_alpha": 2}[kind.rstrip("0123456789")]
    deep = kind.endswith("16")
    pixels = rng.integers(0, 65536 if deep else 256, (18, 26, channels), np.uint16 if deep else np.uint8)
    if deep and channels >= 3:
        _as_rgb16(path, pixels)
    else:
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    assert run.restore("--plan", PLAN, "--scale", str(scale), inputs=[path]) == 0
    before, after = read_photo(path), read_photo(run.out / "kept.png")
    assert after.bits == before.bits == (16 if deep else 8)
    assert after.pixels.shape[2] == before.pixels.shape[2] == (1 if channels < 3 else 3)
    assert after.size == (18 * scale, 26 * scale)
    assert (after.alpha is None) == (channels in (1, 3))
    if before.alpha is not None and after.alpha is not None and scale == 1:
        assert (after.alpha == before.alpha).all()
    if deep:
        assert len(np.unique(after.pixels)) > 300  # more levels than 8 bits have


def test_a_file_that_pillow_cannot_open_is_restored(run: Any) -> None:
    """A TIFF file of grey with alpha in 16 bits: its size is read like its pixels."""
    levels = np.random.default_rng(0).integers(0, 65536, (20, 30, 2), np.uint16)
    path = run.folder / "a.tif"
    tifffile.imwrite(
        path, levels, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    code, records = run.report("--plan", PLAN, inputs=[path])
    assert code == 0
    assert records[0]["size"] == [30, 20]
    result = read_photo(run.out / "a.tif")
    assert (result.bits, result.pixels.shape) == (16, (20, 30, 1))
    assert result.alpha is not None
    assert np.array_equal(result.alpha, levels[..., 1])


def test_exif_and_profile_are_kept_and_the_orientation_is_applied(run: Any) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271], exif[274] = "Camera [X]", 6
    source = run.folder / "turned.jpg"
    Image.new("RGB", (40, 20), "gray").save(source, exif=exif, icc_profile=profile)
    assert run.restore("--plan", PLAN, inputs=[source]) == 0
    with Image.open(run.out / "turned.jpg") as written:
        assert written.size == (20, 40)
        assert written.info["icc_profile"] == profile
        assert written.getexif()[271] == "Camera [X]"
        assert written.getexif().get(274, 1) == 1


def test_an_own_toolbox(run: Any, make_toolbox: Callable[[], Toolbox], tmp_path: Path) -> None:
    box = Toolbox.load("lite").subset(["brighten.constant_shift"])
    box.save(tmp_path / "box")
    args = ["--toolbox", str(tmp_path / "box"), "--plan", "brighten.constant_shift"]
    assert run.restore(*args, inputs=[run.folder / "a.png"]) == 0
    before, after = (read_photo(folder / "a.png").tensor() for folder in (run.folder, run.out))
    assert torch.allclose(after, (before + 40 / 255).clamp(0, 1), atol=1e-3)


def test_brackets_in_paths_are_printed(
    tmp_path: Path, make_photograph: Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "[red]scans[dim]"
    folder.mkdir()
    make_photograph(16, 16, 0).save(folder / "a[1].png")
    (folder / "[bold]bad.png").write_bytes(b"no")
    assert main(["restore", str(folder), "-o", str(tmp_path / "[out]"), "--plan", PLAN]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"{folder / 'a[1].png'} (16 x 16)") for line in lines)
    assert any(str(tmp_path / "[out]" / "a[1].png") in line for line in lines)
    assert str(folder / "[bold]bad.png") in lines[-1]


def test_names_with_control_characters_are_printed_escaped(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good\x1b[31m\n.png", "bad\x1b[31m.png"):
        shutil.copyfile(run.folder / "a.png", run.folder / name)
    (run.folder / "bad\x1b[31m.png").write_text("no image")
    assert run.restore("--plan", "") == 1
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert r"good\x1b[31m\n.png (32 x 24): unchanged" in printed
    assert r"bad\x1b[31m.png: damaged" in printed


def test_names_in_the_progress_bar_are_escaped(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shutil.copyfile(run.folder / "a.png", run.folder / "bell\x07.png")
    assert run.restore("--plan", PLAN) == 0
    printed = capsys.readouterr().err
    assert "\x07" not in printed and r"bell\x07.png" in printed
