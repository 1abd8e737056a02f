"""``opera-env restore`` with custom agents and tools, and how their failures are reported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from opera_env.data.read import read_photo
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import PlanParseError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation

PLAN = "brighten.gamma_correction"
DRAWN = ("brighten.gamma_correction", "brighten.constant_shift")

Draw = Callable[[int, int, int], Image.Image]


@pytest.mark.parametrize("name", ["untouched", "random", "single:unet.denoise", "greedy", "greedy-blind"])
def test_agents_by_name(name: str, run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--agent", name, "--max-tools", "2", "--seed", "3"]
    code, records = run.report(*args, inputs=[run.folder / "a.png"])
    assert code == 0
    assert run.results() == ["a.png"]
    assert f"planned by {name} in" in capsys.readouterr().err
    record = records[0]
    assert record["agent"] == name
    assert len(record["plan"]) <= 2
    assert (record["status"] == "restored") == bool(record["plan"])
    assert record["reason"], "every plan by an agent has a line that says why"
    if name.startswith("single:"):
        assert record["plan"] == ["unet.denoise"]
    elif name == "untouched":
        assert (run.out / "a.png").read_bytes() == (run.folder / "a.png").read_bytes()
    elif name == "greedy-blind":
        plan = run.report("--agent", "greedy", "--max-tools", "2", "--force")[1][0]["plan"]
        assert record["plan"] == plan


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 200), (200, 1), (3, 5)])
def test_the_default_agent_takes_the_smallest_photographs(height: int, width: int, run: Any) -> None:
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(run.folder / "a.png")
    args = ["--max-tools", "1", "--compare"]
    assert run.restore(*args, inputs=[run.folder / "a.png"]) == 0
    assert read_photo(run.out / "a.png").size == (height, width)


class OpenLoop:
    """Writes a plan at once."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(DRAWN, frozenset({"low_light"}), "it is [dark]") for _ in observations]


class ClosedLoop:
    """Observes the result of each tool, and gives a reason for each step."""

    closed_loop = True

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [
            Decision((DRAWN[len(seen.used)],), None, f"step {len(seen.used)}")
            if len(seen.used) < len(DRAWN)
            else Decision((), None, "enough")
            for seen in observations
        ]


class UnreadableAgent:
    """Returns an unreadable answer for dark photographs."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        error = PlanParseError("expected\na list")
        return [
            Decision((), error=error) if seen.image.mean() < 0.1 else Decision(()) for seen in observations
        ]


class UnreadableClosedLoop(UnreadableAgent):
    closed_loop = True


class FailingAgent(OpenLoop):
    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        if observations[0].image.mean() < 0.1:
            raise KeyError("no such\nlayer")
        return super().act(observations)


class LongPlanAgent(OpenLoop):
    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(DRAWN * 9) for _ in observations]


class UnknownToolAgent(OpenLoop):
    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(("no.tool",)) for _ in observations]


class ProbableAgent(OpenLoop):
    """States probabilities, and leaves photographs alone that are not dark."""

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        dark = [float(seen.image.mean()) < 0.1 for seen in observations]
        return [
            Decision(
                DRAWN if is_dark else (), probabilities={"low_light": 0.9 if is_dark else 0.1, "rain": 0.0}
            )
            for is_dark in dark
        ]


@pytest.fixture
def my_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module ``my_agents`` with the classes above."""
    module = ModuleType("my_agents")
    for agent in (
        OpenLoop,
        ClosedLoop,
        UnreadableAgent,
        UnreadableClosedLoop,
        FailingAgent,
        LongPlanAgent,
        UnknownToolAgent,
        ProbableAgent,
    ):
        setattr(module, agent.__name__, agent)
    monkeypatch.setitem(sys.modules, "my_agents", module)


@pytest.mark.usefixtures("my_agents")
@pytest.mark.parametrize(
    ("name", "reasoning", "degradations"),
    [("OpenLoop", "it is [dark]", ["low_light"]), ("ClosedLoop", "step 0\nstep 1\nenough", None)],
)
def test_an_own_agent(name: str, reasoning: str, degradations: list[str] | None, run: Any) -> None:
    code, records = run.report("--agent", f"my_agents:{name}")
    assert code == 0
    for record in records:
        assert tuple(record["plan"]) == DRAWN
        assert record["reasoning"] == reasoning
        assert record["degradations"] == degradations
        assert record["planning_seconds"] > 0
    held = {path.name: path.read_bytes() for path in run.out.iterdir()}
    assert run.restore("--plan", ",".join(DRAWN), "--force") == 0
    assert {path.name: path.read_bytes() for path in run.out.iterdir()} == held


@pytest.mark.usefixtures("my_agents")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("UnreadableAgent", "the agent's answer is no plan: expected a list"),
        ("UnreadableClosedLoop", "the agent's answer is no plan: expected a list"),
        ("FailingAgent", f"{__name__}.FailingAgent.act(observations) raised KeyError: 'no such\\nlayer'."),
    ],
)
def test_an_unreadable_answer_fails_that_photograph_only(
    name: str, says: str, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 20)).save(run.folder / "dark.png")
    code, records = run.report("--agent", f"my_agents:{name}")
    assert code == 1
    assert run.results() == ["a.png", "b.jpg"]
    dark = str(run.folder / "dark.png")
    assert [record["error"] for record in records if record["input"] == dark] == [f"{dark}: {says}"]
    assert capsys.readouterr().err.splitlines()[-1] == f"  {dark}: {says}"


@pytest.mark.usefixtures("my_agents")
@pytest.mark.parametrize(
    ("name", "says"), [("LongPlanAgent", "at most 6"), ("UnknownToolAgent", "unknown tool")]
)
def test_plans_that_cannot_be_run_fail_in_one_line(name: str, says: str, run: Any) -> None:
    code, records = run.report("--agent", f"my_agents:{name}")
    assert code == 1
    assert all(says in record["error"] and "\n" not in record["error"] for record in records)
    assert run.results() == []


@pytest.mark.usefixtures("my_agents")
def test_probabilities_and_reasons_are_printed_and_reported(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 20)).save(run.folder / "dark.png")
    inputs = [run.folder / "a.png", run.folder / "dark.png"]
    code, (bright, dark) = run.report("--agent", "my_agents:ProbableAgent", inputs=inputs)
    assert code == 0
    assert (bright["status"], dark["status"]) == ("unchanged", "restored")
    assert bright["probabilities"] == {"low_light": 0.1, "rain": 0.0}
    assert bright["reason"] == "no degradation has a probability above 0.5"
    assert dark["probabilities"]["low_light"] == 0.9
    assert dark["reason"] == "the agent sees low_light and wrote this plan; no result was scored"
    assert dark["sees"] == "low_light 0.90, rain 0.00"
    printed = capsys.readouterr().err
    assert f"  sees: low_light 0.10, rain 0.00\n  why: {bright['reason']}\n" in printed
    assert "name what is wrong, for example --fix low_light" in printed
    assert f"  sees: {dark['sees']}\n" in printed


def test_the_default_agent_reports_probabilities_scores_and_a_reason(run: Any) -> None:
    code, records = run.report(inputs=[run.folder / "a.png"])
    assert code == 0
    assert set(records[0]["probabilities"]) == set(DEGRADATIONS)
    predicted = {name for name, value in records[0]["probabilities"].items() if value > 0.5}
    assert set(records[0]["degradations"]) == predicted
    assert all(0 <= value <= 1 for value in records[0]["probabilities"].values())
    assert any(scored["plan"] == [] for scored in records[0]["scores"])
    assert records[0]["reason"]


def test_fix_chooses_tools_for_the_named_degradations(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [run.folder / "a.png"]
    code, (record,) = run.report("--fix", "low_light, haze", "--toolbox", "lite", inputs=inputs)
    assert code == 0
    assert record["plan"] in [
        ["brighten.gamma_correction", "unet.dehaze"],
        ["brighten.constant_shift", "unet.dehaze"],
    ]
    assert record["fix"] == ["low_light", "haze"]
    assert record["degradations"] == ["haze", "low_light"]
    assert record["agent"] is None
    assert len(record["scores"]) == 3, "two plans and the unchanged photograph"
    best = max(record["scores"], key=lambda scored: scored["score"] if scored["plan"] else -1.0)
    assert best["plan"] == record["plan"]
    assert "[chosen for low_light, haze in " in capsys.readouterr().err


def test_fix_says_so_if_the_critic_prefers_the_photograph_as_it_is(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def darken(image: Tensor) -> Tensor:
        return image * 0.02

    toolbox = Toolbox().add("my.darken", darken, degradations=["haze"])
    monkeypatch.setattr(Toolbox, "load", lambda *args: toolbox)
    code, (record,) = run.report("--fix", "haze", inputs=[run.folder / "b.jpg"])
    scores = {tuple(scored["plan"]): scored["score"] for scored in record["scores"]}
    assert code == 0 and record["plan"] == ["my.darken"] and scores[()] > scores[("my.darken",)]
    assert record["reason"].startswith("restored as requested, although the critic prefers the photograph")


@pytest.mark.parametrize(("agent", "plans"), [("greedy", 37), ("beam", 163), ("exhaustive-blind", 343)])
def test_a_long_search_is_announced(
    agent: str, plans: int, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--agent", agent, "--max-tools", "2", "--toolbox", "lite"]
    assert run.restore(*args, inputs=[run.folder / "nothing.png"]) == 1
    note = f"note: {agent} tries up to {plans} plans for each photograph, which takes long"
    assert (note in capsys.readouterr().err) == (plans > 40)


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
    """A toolbox whose tools fail on white photographs."""
    box = Toolbox()
    for tool in (_raises, _returns_nan, _interrupts):
        box.add(f"my.{tool.__name__[1:]}", tool)
    monkeypatch.setattr(Toolbox, "load", lambda *args: box)


@pytest.mark.usefixtures("my_tools")
@pytest.mark.parametrize(("tool", "says"), [("my.raises", "too bright"), ("my.returns_nan", "NaN")])
def test_a_failing_tool_fails_that_photograph_only(tool: str, says: str, run: Any) -> None:
    white = run.folder / "aa.png"
    Image.new("RGB", (20, 20), "white").save(white)
    code, records = run.report("--plan", tool)
    assert code == 1
    assert run.results() == ["a.png", "b.jpg"]
    assert [record["status"] for record in records] == ["restored", "failed", "restored"]
    error = records[1]["error"]
    assert error.startswith(f"{white}: tool '{tool}' failed")
    assert says in error
    assert "\n" not in error


@pytest.mark.usefixtures("my_tools")
def test_an_interrupted_run_leaves_complete_files_and_a_report(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 20), "white").save(run.folder / "aa.png")
    code, records = run.report("--plan", "my.interrupts", "--compare")
    assert code == 130
    assert [record["input"] for record in records] == [str(run.folder / "a.png")]
    assert run.results() == ["a.png", "a.png.compare.jpg"]
    assert read_photo(run.out / "a.png").size == (24, 32)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "interrupted: the same command with --skip-existing continues"


def test_an_interruption_while_writing_leaves_no_file(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def half(path: Path, data: bytes) -> int:
        write_bytes(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    assert run.restore("--plan", PLAN) == 130
    assert run.results() == []


def test_a_full_disk_is_reported_and_leaves_no_file(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    assert run.restore("--plan", "", inputs=[run.folder / "a.png"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert str(run.folder / "a.png") in message
    assert "No space left on device" in message
    assert run.results() == []


def test_a_result_that_another_process_wrote_is_kept(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path) -> Any:
        run.out.mkdir(exist_ok=True)
        (run.out / path.name).write_text("theirs")
        return read_photo(path)

    monkeypatch.setattr("opera_env.cli.restore_photograph.read_photo", read)
    assert run.restore("--plan", PLAN) == 1
    assert (run.out / "a.png").read_text() == "theirs"
    assert run.results() == ["a.png", "b.jpg"]
    message = capsys.readouterr().err.splitlines()[-1]
    assert str(run.out / "b.jpg") in message
    assert ".part" not in message


def test_a_folder_that_cannot_be_created_is_reported(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run.out.mkdir()
    (run.out / "sub").write_text("a file")
    (run.folder / "sub").mkdir()
    (run.folder / "a.png").rename(run.folder / "sub" / "a.png")
    inputs = [run.folder / "**/*.png", run.folder / "b.jpg"]
    assert run.restore("--plan", PLAN, inputs=inputs) == 1
    assert run.results() == ["b.jpg", "sub"]
    assert str(run.folder / "sub/a.png") in capsys.readouterr().err.splitlines()[-1]


def test_a_photograph_that_is_too_large_is_not_decoded(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (12000, 9000)).save(run.folder / "large.png")
    decoded: list[str] = []

    def read(path: Path) -> Any:
        decoded.append(path.name)
        return read_photo(path)

    monkeypatch.setattr("opera_env.cli.restore_photograph.read_photo", read)
    code, records = run.report("--plan", PLAN, "--max-memory", "2.5")
    assert code == 1
    assert decoded == ["a.png", "b.jpg"]
    error = records[-1]["error"]
    assert error.startswith(f"{run.folder / 'large.png'}: 12000 x 9000 pixels")
    assert "--max-memory" in error
