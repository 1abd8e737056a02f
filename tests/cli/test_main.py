"""What all subcommands have in common: exit codes, errors in one line, help with examples, completion."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from opera_env import __version__
from opera_env.cli import main
from opera_env.cli.command import format_error
from opera_env.cli.options.tools import Tools
from opera_env.errors import OperaError

HINT = " (--debug prints the traceback)"
SUBCOMMANDS = ("restore", "compare", "evaluate", "study", "tools", "weights", "demo", "hub")


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``opera-env tools`` raise an error."""

    def run(command: Tools) -> int:
        raise error

    monkeypatch.setattr(Tools, "run", run)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OperaError("no tool: use another"), "error: no tool: use another"),
        (OperaError("two\n  lines"), "error: two lines"),
        (OperaError("/a/[red]b[/red]/[1].png:  x"), "error: /a/[red]b[/red]/[1].png:  x"),
        (ValueError("two\nlines"), f"error: ValueError: two lines{HINT}"),
        (KeyError(), f"error: KeyError: no message{HINT}"),
        (
            RuntimeError("long " * 100),
            f"error: RuntimeError: {'long ' * 99}long{HINT}",
        ),
    ],
)
def test_errors_are_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(error, monkeypatch)
    assert main(["tools", "list"]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"{line}\n"
    assert printed.out == ""


@pytest.mark.parametrize("error", [OperaError("no tool"), ValueError("no value")])
def test_debug_lets_errors_through(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(type(error), match="no "):
        main(["tools", "list", "--debug"])


@pytest.mark.parametrize("args", [[], ["--debug"]])
def test_an_interruption_exits_with_code_130(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert main(["tools", "list", *args]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("debug", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_process_ends_with_the_exit_code(debug: bool, child_environment: dict[str, str]) -> None:
    program = "import sys; from opera_env.cli import main; sys.exit(main())"
    args = ["tools", "list", "--toolbox", "nothing", *(["--debug"] if debug else [])]
    done = subprocess.run(
        [sys.executable, "-c", program, *args], env=child_environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no toolbox 'nothing'" in done.stderr
    assert ("Traceback" in done.stderr) == debug
    assert (done.stderr.count("\n") == 1) == (not debug)


@pytest.mark.slow
def test_an_installed_command_finds_an_agent_in_the_current_folder(
    tmp_path: Path, child_environment: dict[str, str]
) -> None:
    """The script of an installed command lies in another folder, and Python searches that one."""
    script, folder = tmp_path / "bin" / "opera-env", tmp_path / "work"
    script.parent.mkdir()
    script.write_text("import sys\nfrom opera_env.cli import main\nsys.exit(main())\n")
    folder.mkdir()
    Image.new("RGB", (64, 64), (90, 120, 60)).save(folder / "a.png")
    (folder / "my_module.py").write_text("""
from opera_env.types import Decision

class MyAgent:
    closed_loop = False

    def act(self, observations):
        return [Decision(("brighten.gamma_correction",)) for _ in observations]
""")
    arguments = ["restore", "a.png", "-o", "out", "--device", "cpu", "--agent", "my_module:MyAgent"]
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=child_environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "a.png").is_file()
    assert "brighten.gamma_correction" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["nonsense"],
        ["restore"],
        ["restore", "a.png"],
        ["restore", "a.png", "-o", "out", "--scale", "large"],
        ["restore", "a.png", "-o", "out", "--format", "gif"],
        ["restore", "a.png", "-o", "out", "--nonsense"],
        ["tools", "burn"],
    ],
)
def test_invalid_arguments_exit_with_code_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert "--help" in printed


def test_a_number_out_of_range_exits_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "train", "unet.denoise", "--images", "a", "--val", "b", "--lr", "nan"]) == 2
    assert capsys.readouterr().err == "error: --lr nan: expected a number of at least 0.\n"


@pytest.mark.parametrize("command", [[], *([name] for name in SUBCOMMANDS)])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    start = " ".join(["opera-env", *command]) + " "
    assert any(line.startswith(start) for line in lines)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"opera-env {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    if shell == "tcsh":  # tyro knows the others by itself
        pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as stop:
        main(["--tyro-print-completion", shell])
    assert stop.value.code in (0, None)
    script = capsys.readouterr().out
    assert "opera-env" in script
    assert all(word in script for word in (*SUBCOMMANDS, "skip-existing"))


def test_completion_without_its_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--tyro-print-completion", "tcsh"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "shtab" in message or "tcsh" in message, "newer versions of tyro name the package"
    assert message.count("\n") == 1


def test_an_error_line_keeps_spaces_in_paths() -> None:
    assert format_error(OperaError("/a  b/c.png: bad\n\n  file")) == "/a  b/c.png: bad file"


def test_the_package_can_be_run_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["opera-env", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("opera_env.cli", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: opera-env ")
