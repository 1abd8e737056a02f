"""``opera-env restore`` from words to files: what is written, what is refused, what is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

from opera_env.cli import main
from opera_env.data.decode import read_photo
from opera_env.errors import PlanParseError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation

PLAN = "brighten.gamma_correction"
DRAWN = ("brighten.gamma_correction", "brighten.constant_shift")

Draw = Callable[[int, int, int], Image.Image]


@dataclass(frozen=True)
class World:
    """Two photographs in a folder, a bad file if wanted, and a place for results."""

    folder: Path
    out: Path

    def restore(self, *words: str, inputs: Sequence[Path] = ()) -> int:
        names = [str(path) for path in inputs or [self.folder]]
        return main(["restore", *names, "-o", str(self.out), *words])

    def report(self, *words: str, inputs: Sequence[Path] = ()) -> tuple[int, list[dict[str, Any]]]:
        """Restores, and returns what the JSON says of the photographs."""
        with redirect_stdout(StringIO()) as printed:
            code = self.restore("--json", *words, inputs=inputs)
        return code, json.loads(printed.getvalue())["photographs"]

    def results(self) -> list[str]:
        """Names of all that is in the output folder, hidden files included."""
        return sorted(path.name for path in self.out.iterdir()) if self.out.exists() else []


@pytest.fixture
def world(tmp_path: Path, draw_photograph: Draw) -> World:
    folder = tmp_path / "in"
    folder.mkdir()
    draw_photograph(24, 32, 0).save(folder / "a.png")
    draw_photograph(30, 20, 1).save(folder / "b.jpg", quality=92)
    return World(folder, tmp_path / "out")


def test_a_folder_is_restored(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, records = world.report("--plan", f"{PLAN}, brighten.constant_shift")
    assert code == 0
    assert world.results() == ["a.png", "b.jpg"]
    assert read_photo(world.out / "a.png").pixels.mean() > read_photo(world.folder / "a.png").pixels.mean()
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    source, target = world.folder / "a.png", world.out / "a.png"
    assert lines[0].startswith(f"{source} (32 x 24): {PLAN} 0.")
    assert " s > brighten.constant_shift 0." in lines[0]
    assert lines[0].endswith(f" s -> {target}")
    assert lines[-1] == "2 restored"
    assert records[0]["plan"] == [PLAN, "brighten.constant_shift"]
    assert len(records[0]["seconds"]) == 2
    assert (records[0]["input"], records[0]["output"]) == (str(source), str(target))
    assert (records[0]["size"], records[0]["result_size"]) == ([32, 24], [32, 24])
    assert records[0]["agent"] is None


def test_subfolders_of_a_pattern_are_made_again(world: World, draw_photograph: Draw) -> None:
    (world.folder / "deep/er").mkdir(parents=True)
    draw_photograph(16, 16, 2).save(world.folder / "deep/er/c.png")
    assert world.restore("--plan", PLAN, inputs=[world.folder / "**/*.png"]) == 0
    written = [path for path in world.out.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(world.out).as_posix() for path in written) == ["a.png", "deep/er/c.png"]


def test_out_as_a_file_name(world: World) -> None:
    target = world.out / "deep" / "night.webp"
    assert main(["restore", str(world.folder / "a.png"), "-o", str(target), "--plan", PLAN]) == 0
    assert read_photo(target).format == "WEBP"


def test_an_existing_result_is_refused_and_stays(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.out.mkdir()
    (world.out / "a.png").write_text("mine")
    assert world.restore("--plan", PLAN) == 1
    assert (world.out / "a.png").read_text() == "mine"
    assert world.results() == ["a.png", "b.jpg"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert str(world.folder / "a.png") in last
    assert f"{world.out / 'a.png'} exists" in last


def test_force_replaces_an_existing_result(world: World) -> None:
    world.out.mkdir()
    (world.out / "a.png").write_text("mine")
    assert world.restore("--plan", PLAN, "--force") == 0
    assert read_photo(world.out / "a.png").size == (24, 32)


def test_skip_existing_goes_on_where_a_run_ended(world: World) -> None:
    assert world.restore("--plan", PLAN, inputs=[world.folder / "a.png"]) == 0
    before = (world.out / "a.png").stat()
    code, records = world.report("--plan", PLAN, "--skip-existing", "--force")
    assert code == 0
    assert [record["status"] for record in records] == ["skipped", "restored"]
    after = (world.out / "a.png").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("words", [["--force"], ["--skip-existing"], ["--force", "--skip-existing"], []])
@pytest.mark.parametrize("way", ["the same folder", "a link to it", "by name"])
def test_a_photograph_is_never_written_over(way: str, words: list[str], world: World) -> None:
    inputs, out = [world.folder], world.folder
    if way == "a link to it":
        out = world.out
        out.symlink_to(world.folder)
    elif way == "by name":
        inputs, out = [world.folder / "a.png"], world.folder / "a.png"
    held = {path: path.read_bytes() for path in world.folder.iterdir()}
    assert World(world.folder, out).restore("--plan", PLAN, *words, inputs=inputs) == 1
    assert {path: path.read_bytes() for path in world.folder.iterdir()} == held


def test_nor_is_another_photograph_of_the_run(world: World, draw_photograph: Draw) -> None:
    world.out.mkdir()
    draw_photograph(16, 16, 5).save(world.out / "a.png")
    held = (world.out / "a.png").read_bytes()
    inputs = [world.folder / "a.png", world.out / "a.png"]
    target = World(world.folder, world.out)
    assert target.restore("--plan", PLAN, "--force", inputs=inputs) == 1
    assert (world.out / "a.png").read_bytes() == held


def add_bad_files(folder: Path) -> list[str]:
    """Files that cannot be restored: empty, cut short, no image, another format than their name's."""
    whole = (folder / "a.png").read_bytes()
    bad = {"0.png": b"", "cut.png": whole[: len(whole) // 2], "no.jpg": b"hello", "lie.jpg": whole}
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    return sorted(bad)


def test_a_batch_goes_on_past_bad_files(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    bad = add_bad_files(world.folder)
    code, records = world.report("--plan", PLAN, inputs=[world.folder, world.folder / "none*.png"])
    assert code == 1
    assert world.results() == ["a.png", "b.jpg"]
    failed = [record for record in records if record["status"] == "failed"]
    names = [str(world.folder / name) for name in (*bad, "none*.png")]
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--agent", "nobody"), "unknown agent 'nobody'"),
        (("--agent", "no_module:Agent"), "no_module"),
        (("--plan", "no.tool"), "unknown tool 'no.tool'"),
        (("--plan", f"{PLAN},,"), "between two commas"),
        (("--toolbox", "nothing"), "no toolbox 'nothing'"),
        (("--scale", "0"), "--scale"),
        (("--quality", "101"), "--quality"),
        (("--max-memory", "0"), "--max-memory"),
        (("--max-memory", "nan"), "--max-memory"),
        (("--max-memory", "inf"), "--max-memory"),
        (("--view", "-1"), "--view"),
        (("--max-tools", "0"), "--max-tools"),
        (("--device", "abacus"), "abacus"),
        (("--agent", "random", "--plan", PLAN), "not both"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(
    words: tuple[str, ...], says: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = () if "--agent" in words or "--plan" in words else ("--plan", PLAN)
    assert world.restore(*plan, *words) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert says in message
    assert message.count("\n") == 1
    assert not world.out.exists()


@pytest.mark.parametrize("inputs", [[], ["empty"]])
def test_nothing_to_restore_is_an_error(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    names = [str(tmp_path / name) for name in inputs]
    assert main(["restore", *names, "-o", str(tmp_path / "out"), "--plan", PLAN]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_empty_plan_copies_the_very_bytes(world: World, draw_photograph: Draw) -> None:
    draw_photograph(16, 16, 2).save(
        world.folder / "film.webp", save_all=True, append_images=[draw_photograph(16, 16, 3)]
    )
    code, records = world.report("--plan", "")
    assert code == 0
    assert {path.name: path.read_bytes() for path in world.folder.iterdir()} == {
        path.name: path.read_bytes() for path in world.out.iterdir()
    }
    assert {record["status"] for record in records} == {"left as it was"}
    assert all(record["notices"] == [] for record in records)


def test_the_empty_plan_never_replaces_unless_forced(world: World) -> None:
    world.out.mkdir()
    (world.out / "a.png").write_text("mine")
    assert world.restore("--plan", "") == 1
    assert (world.out / "a.png").read_text() == "mine"
    assert world.restore("--plan", "", "--force") == 0
    assert (world.out / "a.png").read_bytes() == (world.folder / "a.png").read_bytes()


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "bmp"])
def test_the_empty_plan_converts(kind: str, world: World) -> None:
    code, records = world.report("--plan", "", "--format", kind)
    assert code == 0
    for record in records:
        written = read_photo(record["output"])
        assert written.format == kind.upper()
        assert written.size == read_photo(record["input"]).size
        if kind in ("png", "tiff", "bmp"):
            assert (written.pixels == read_photo(record["input"]).pixels).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("plan", ["", PLAN, "unet.super_resolution", f"{PLAN},unet.super_resolution"])
def test_scale_enlarges(plan: str, scale: int, world: World) -> None:
    code, records = world.report("--plan", plan, "--scale", str(scale), inputs=[world.folder / "a.png"])
    assert code == 0
    assert read_photo(world.out / "a.png").size == (24 * scale, 32 * scale)
    assert records[0]["result_size"] == [32 * scale, 24 * scale]
    assert records[0]["status"] == "restored"


def test_an_enlarging_tool_keeps_the_size_at_scale_one(world: World) -> None:
    assert world.restore("--plan", "unet.super_resolution", inputs=[world.folder / "a.png"]) == 0
    assert read_photo(world.out / "a.png").size == (24, 32)


def test_a_strip_shows_before_and_after(world: World) -> None:
    assert world.restore("--plan", PLAN, "--compare") == 0
    assert world.results() == ["a.png", "a.png.compare.jpg", "b.jpg", "b.jpg.compare.jpg"]
    with Image.open(world.out / "a.png.compare.jpg") as strip:
        assert strip.format == "JPEG"
        assert strip.width > 2 * 32
        assert strip.height > 24
        pixels = np.asarray(strip.convert("L"), np.float64)[-20:]
    before, after = pixels[:, :32], pixels[:, pixels.shape[1] // 2 :]
    assert after.mean() > before.mean() + 2


def test_a_strip_is_not_written_over_either(world: World) -> None:
    world.out.mkdir()
    strip = world.out / "a.png.compare.jpg"
    strip.write_text("mine")
    assert world.restore("--plan", PLAN, "--compare", inputs=[world.folder / "a.png"]) == 1
    assert strip.read_text() == "mine"
    assert world.results() == [strip.name]
    assert world.restore("--plan", PLAN, "--compare", "--force", inputs=[world.folder / "a.png"]) == 0
    assert strip.read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 34000), (1500, 3)])
def test_strips_of_strange_shapes(height: int, width: int, world: World) -> None:
    Image.new("RGB", (width, height), "gray").save(world.folder / "a.png")
    assert world.restore("--plan", PLAN, "--compare", inputs=[world.folder / "a.png"]) == 0
    with Image.open(world.out / "a.png.compare.jpg") as strip:
        strip.load()
        assert strip.height <= 720 + 32
        assert strip.width <= 2 * 4096 + 32


def test_a_grey_profile_does_not_go_into_a_coloured_strip(world: World) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("L", (20, 20), 90).save(world.folder / "a.png", icc_profile=profile)
    Image.new("RGB", (20, 20), "gray").save(world.folder / "b.jpg", icc_profile=profile)
    assert world.restore("--plan", PLAN, "--compare") == 0
    with Image.open(world.out / "a.png.compare.jpg") as strip:
        assert "icc_profile" not in strip.info
    with Image.open(world.out / "b.jpg.compare.jpg") as strip:
        assert strip.info["icc_profile"] == profile


def test_json_on_standard_output_is_nothing_but_json(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    add_bad_files(world.folder)
    assert world.restore("--plan", PLAN, "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert set(summary) == {"toolbox", "versions", "photographs"}
    assert summary["toolbox"]["name"] == "lite"
    assert summary["toolbox"]["fingerprint"] == Toolbox.load("lite").fingerprint
    assert len(summary["photographs"]) == 6


def test_a_progress_bar_keeps_out_of_standard_output(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take the pipe for a terminal
    assert world.restore("--plan", PLAN, "--json") == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["photographs"]) == 2
    assert "━" in printed.err
    assert "photographs" in printed.err


def test_a_name_of_two_lines_fails_in_one(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = world.folder / "two\nlines.png"
    path.write_bytes(b"no image")
    code, records = world.report("--plan", PLAN, inputs=[path])
    assert code == 1
    assert records[0]["input"] == str(path)
    assert records[0]["error"].startswith(f"{world.folder}/two lines.png: damaged")
    assert capsys.readouterr().err.count("\n") == 1


def test_notices_are_printed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    clear = Image.new("RGBA", (20, 10), (90, 80, 70, 128))
    clear.save(world.folder / "c.png")
    source = world.folder / "c.png"
    code, records = world.report("--plan", PLAN, "--format", "jpeg", inputs=[source])
    assert code == 0
    assert records[0]["notices"] == ["JPEG holds no transparency"]
    assert "note: JPEG holds no transparency" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["untouched", "random", "greedy", "greedy-blind"])
def test_agents_by_name(name: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--agent", name, "--max-tools", "2", "--seed", "3"]
    code, records = world.report(*words, inputs=[world.folder / "a.png"])
    assert code == 0
    assert world.results() == ["a.png"]
    assert f"planned by {name} in" in capsys.readouterr().err
    record = records[0]
    assert record["agent"] == name
    assert len(record["plan"]) <= 2
    assert (record["status"] == "restored") == bool(record["plan"])
    if name == "untouched":
        assert (world.out / "a.png").read_bytes() == (world.folder / "a.png").read_bytes()
    elif name == "greedy-blind":
        plan = world.report("--agent", "greedy", "--max-tools", "2", "--force")[1][0]["plan"]
        assert record["plan"] == plan


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 200), (200, 1), (3, 5)])
def test_the_default_agent_takes_the_smallest_photographs(height: int, width: int, world: World) -> None:
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(world.folder / "a.png")
    words = ["--max-tools", "1", "--compare"]
    assert world.restore(*words, inputs=[world.folder / "a.png"]) == 0
    assert read_photo(world.out / "a.png").size == (height, width)


class OpenLoop:
    """Writes a plan at once."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(DRAWN, frozenset({"low_light"}), "it is [dark]") for _ in observations]


class ClosedLoop:
    """Looks again after each tool and says why it goes on."""

    closed_loop = True

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [
            Decision((DRAWN[len(seen.used)],), None, f"step {len(seen.used)}")
            if len(seen.used) < len(DRAWN)
            else Decision((), None, "enough")
            for seen in observations
        ]


class Mumbler:
    """Cannot say what it wants of dark photographs."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        error = PlanParseError("expected\na list")
        return [
            Decision((), error=error) if seen.image.mean() < 0.1 else Decision(()) for seen in observations
        ]


class ClosedMumbler(Mumbler):
    closed_loop = True


class Clumsy(OpenLoop):
    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        if observations[0].image.mean() < 0.1:
            raise KeyError("no such\nlayer")
        return super().act(observations)


class TooEager(OpenLoop):
    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(DRAWN * 9) for _ in observations]


class Inventive(OpenLoop):
    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(("no.tool",)) for _ in observations]


@pytest.fixture
def my_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module ``my_agents`` with the classes above."""
    module = ModuleType("my_agents")
    for agent in (OpenLoop, ClosedLoop, Mumbler, ClosedMumbler, Clumsy, TooEager, Inventive):
        setattr(module, agent.__name__, agent)
    monkeypatch.setitem(sys.modules, "my_agents", module)


@pytest.mark.usefixtures("my_agents")
@pytest.mark.parametrize(
    ("name", "reasoning", "degradations"),
    [("OpenLoop", "it is [dark]", ["low_light"]), ("ClosedLoop", "step 0\nstep 1\nenough", None)],
)
def test_an_agent_of_ones_own(
    name: str, reasoning: str, degradations: list[str] | None, world: World
) -> None:
    code, records = world.report("--agent", f"my_agents:{name}")
    assert code == 0
    for record in records:
        assert tuple(record["plan"]) == DRAWN
        assert record["reasoning"] == reasoning
        assert record["degradations"] == degradations
        assert record["planning_seconds"] > 0
    held = {path.name: path.read_bytes() for path in world.out.iterdir()}
    assert world.restore("--plan", ",".join(DRAWN), "--force") == 0
    assert {path.name: path.read_bytes() for path in world.out.iterdir()} == held


@pytest.mark.usefixtures("my_agents")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Mumbler", "the agent's answer is no plan: expected a list"),
        ("ClosedMumbler", "the agent's answer is no plan: expected a list"),
        ("Clumsy", "KeyError: 'no such\\nlayer'"),
    ],
)
def test_an_agent_that_cannot_answer_fails_that_photograph(
    name: str, says: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 20)).save(world.folder / "dark.png")
    code, records = world.report("--agent", f"my_agents:{name}")
    assert code == 1
    assert world.results() == ["a.png", "b.jpg"]
    dark = str(world.folder / "dark.png")
    assert [record["error"] for record in records if record["input"] == dark] == [f"{dark}: {says}"]
    assert capsys.readouterr().err.splitlines()[-1] == f"  {dark}: {says}"


@pytest.mark.usefixtures("my_agents")
@pytest.mark.parametrize(("name", "says"), [("TooEager", "at most 6"), ("Inventive", "unknown tool")])
def test_plans_that_cannot_be_run_fail_in_one_line(name: str, says: str, world: World) -> None:
    code, records = world.report("--agent", f"my_agents:{name}")
    assert code == 1
    assert all(says in record["error"] and "\n" not in record["error"] for record in records)
    assert world.results() == []


def _white(image: Tensor) -> bool:
    return bool((image > 0.99).all())


def _raises(image: Tensor) -> Tensor:
    if _white(image):
        raise ValueError("too\nbright")
    return image * 0.5


def _returns_nan(image: Tensor) -> Tensor:
    return image / (0.0 if _white(image) else 1.0) - image / (0.0 if _white(image) else 2.0)


def _interrupts(image: Tensor) -> Tensor:
    if _white(image):
        raise KeyboardInterrupt
    return image * 0.5


@pytest.fixture
def my_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toolbox whose tools mind white photographs."""
    box = Toolbox()
    for tool in (_raises, _returns_nan, _interrupts):
        box.add(f"my.{tool.__name__[1:]}", tool)
    monkeypatch.setattr(Toolbox, "load", lambda *arguments: box)


@pytest.mark.usefixtures("my_tools")
@pytest.mark.parametrize(("tool", "says"), [("my.raises", "too bright"), ("my.returns_nan", "NaN")])
def test_a_failing_tool_fails_that_photograph_only(tool: str, says: str, world: World) -> None:
    white = world.folder / "aa.png"
    Image.new("RGB", (20, 20), "white").save(white)
    code, records = world.report("--plan", tool)
    assert code == 1
    assert world.results() == ["a.png", "b.jpg"]
    assert [record["status"] for record in records] == ["restored", "failed", "restored"]
    error = records[1]["error"]
    assert error.startswith(f"{white}: tool '{tool}' failed")
    assert says in error
    assert "\n" not in error


@pytest.mark.usefixtures("my_tools")
def test_an_interrupted_run_leaves_whole_files_and_a_report(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 20), "white").save(world.folder / "aa.png")
    code, records = world.report("--plan", "my.interrupts", "--compare")
    assert code == 130
    assert [record["input"] for record in records] == [str(world.folder / "a.png")]
    assert world.results() == ["a.png", "a.png.compare.jpg"]
    assert read_photo(world.out / "a.png").size == (24, 32)
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


def test_an_interruption_while_writing_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def half(path: Path, data: bytes) -> int:
        write_bytes(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    assert world.restore("--plan", PLAN) == 130
    assert world.results() == []


def test_a_full_disk_fails_by_name_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    assert world.restore("--plan", "", inputs=[world.folder / "a.png"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert str(world.folder / "a.png") in message
    assert "No space left on device" in message
    assert world.results() == []


def test_a_result_that_appears_meanwhile_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path) -> Any:
        world.out.mkdir(exist_ok=True)
        (world.out / path.name).write_text("somebody's")
        return read_photo(path)

    monkeypatch.setattr("opera_env.cli.restore.read_photo", read)
    assert world.restore("--plan", PLAN) == 1
    assert (world.out / "a.png").read_text() == "somebody's"
    assert world.results() == ["a.png", "b.jpg"]
    message = capsys.readouterr().err.splitlines()[-1]
    assert str(world.out / "b.jpg") in message
    assert ".part" not in message


def test_a_folder_that_cannot_be_made_fails_by_name(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.out.mkdir()
    (world.out / "sub").write_text("a file")
    (world.folder / "sub").mkdir()
    (world.folder / "a.png").rename(world.folder / "sub" / "a.png")
    inputs = [world.folder / "**/*.png", world.folder / "b.jpg"]
    assert world.restore("--plan", PLAN, inputs=inputs) == 1
    assert world.results() == ["b.jpg", "sub"]
    assert str(world.folder / "sub/a.png") in capsys.readouterr().err.splitlines()[-1]


def test_too_large_a_photograph_is_named_before_it_is_decoded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (12000, 9000)).save(world.folder / "large.png")
    decoded: list[str] = []

    def read(path: Path) -> Any:
        decoded.append(path.name)
        return read_photo(path)

    monkeypatch.setattr("opera_env.cli.restore.read_photo", read)
    code, records = world.report("--plan", PLAN, "--max-memory", "2.5")
    assert code == 1
    assert decoded == ["a.png", "b.jpg"]
    error = records[-1]["error"]
    assert error.startswith(f"{world.folder / 'large.png'}: 12000 x 9000 pixels")
    assert "--max-memory" in error


def test_debug_shows_where_and_still_goes_on(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    bad = add_bad_files(world.folder)
    assert world.restore("--plan", PLAN, "--debug") == 1
    assert world.results() == ["a.png", "b.jpg"]
    assert capsys.readouterr().err.count("Traceback") >= len(bad)


def _as_rgb16(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", ["rgb16", "rgba16", "grey16", "grey8", "grey_alpha8", "rgba8"])
def test_bits_alpha_and_mode_are_kept(kind: str, scale: int, world: World) -> None:
    rng = np.random.default_rng(7)
    path = world.folder / "kept.png"
    channels = {"rgb": 3, "rgba": 4, "grey": 1, "grey_alpha": 2}[kind.rstrip("0123456789")]
    deep = kind.endswith("16")
    pixels = rng.integers(0, 65536 if deep else 256, (18, 26, channels), np.uint16 if deep else np.uint8)
    if deep and channels >= 3:
        _as_rgb16(path, pixels)
    else:
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    assert world.restore("--plan", PLAN, "--scale", str(scale), inputs=[path]) == 0
    before, after = read_photo(path), read_photo(world.out / "kept.png")
    assert after.bits == before.bits == (16 if deep else 8)
    assert after.pixels.shape[2] == before.pixels.shape[2] == (1 if channels < 3 else 3)
    assert after.size == (18 * scale, 26 * scale)
    assert (after.alpha is None) == (channels in (1, 3))
    if before.alpha is not None and after.alpha is not None and scale == 1:
        assert (after.alpha == before.alpha).all()
    if deep:
        assert len(np.unique(after.pixels)) > 300  # more levels than 8 bits have


def test_exif_and_profile_are_kept_and_the_picture_stands_upright(world: World) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271], exif[274] = "Camera [X]", 6
    source = world.folder / "turned.jpg"
    Image.new("RGB", (40, 20), "gray").save(source, exif=exif, icc_profile=profile)
    assert world.restore("--plan", PLAN, inputs=[source]) == 0
    with Image.open(world.out / "turned.jpg") as written:
        assert written.size == (20, 40)
        assert written.info["icc_profile"] == profile
        assert written.getexif()[271] == "Camera [X]"
        assert written.getexif().get(274, 1) == 1


def test_a_toolbox_of_ones_own(world: World, make_toolbox: Callable[[], Toolbox], tmp_path: Path) -> None:
    box = Toolbox.load("lite").subset(["brighten.constant_shift"])
    box.save(tmp_path / "box")
    words = ["--toolbox", str(tmp_path / "box"), "--plan", "brighten.constant_shift"]
    assert world.restore(*words, inputs=[world.folder / "a.png"]) == 0
    before, after = (read_photo(folder / "a.png").tensor() for folder in (world.folder, world.out))
    assert torch.allclose(after, (before + 40 / 255).clamp(0, 1), atol=1e-3)


def test_brackets_in_paths_appear_whole(
    tmp_path: Path, draw_photograph: Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "[red]scans[dim]"
    folder.mkdir()
    draw_photograph(16, 16, 0).save(folder / "a[1].png")
    (folder / "[bold]bad.png").write_bytes(b"no")
    assert main(["restore", str(folder), "-o", str(tmp_path / "[out]"), "--plan", PLAN]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"{folder / 'a[1].png'} (16 x 16)") for line in lines)
    assert any(str(tmp_path / "[out]" / "a[1].png") in line for line in lines)
    assert str(folder / "[bold]bad.png") in lines[-1]
