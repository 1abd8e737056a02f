"""Signals and closed pipes: how a process ends, with which code and how many lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from opera_env.signal_handlers import SignalsRaise, TerminationSignal
from opera_env.signals import (
    output_has_no_reader,
    raise_signal_behind,
    run_command,
    signals_end_the_process,
)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """SIGHUP is not ignored, as it is in processes that were started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def raise_signal(number: int) -> Callable[[], int]:
    def run() -> int:
        signal.raise_signal(number)
        raise AssertionError("the signal has not ended the command")

    return run


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated, the terminal was closed"),
    ],
)
def test_a_signal_becomes_an_exit_code_and_a_line(
    number: int, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    assert run_command(raise_signal(number)) == code
    assert capsys.readouterr().err == f"{line}\n"
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_that_ends_by_itself_keeps_its_code(result: int | None, code: int) -> None:
    assert run_command(lambda: result) == code


def test_a_command_whose_code_has_swallowed_a_signal_does_not_report_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept: list[BaseException] = []

    def run() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:  # noqa: BLE001 - as some libraries do
            kept.append(error)
        return 0

    assert run_command(run) == 143
    assert capsys.readouterr().err == "terminated\n"


def test_an_error_in_place_of_a_signal_is_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Some libraries say that a file is damaged if a signal comes while they read it."""

    def run() -> int:
        with suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        raise ValueError("damaged")

    assert run_command(run, lambda error: pytest.fail("an error was reported")) == 143
    assert capsys.readouterr().err == "terminated\n"


def test_errors_are_reported() -> None:
    reported: list[Exception] = []

    def report(error: Exception) -> int:
        reported.append(error)
        return 5

    assert run_command(lambda: 1 // 0, report) == 5
    assert [type(error) for error in reported] == [ZeroDivisionError]


@pytest.mark.parametrize("from_cause", [True, False])
def test_the_signal_behind_an_error_is_raised(from_cause: bool) -> None:
    """Code that turns every exception into an error of its own may have turned a signal into one."""
    with pytest.raises(TerminationSignal), SignalsRaise():
        try:
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException as stop:  # noqa: BLE001 - as some libraries do
                raise RuntimeError("damaged") from (stop if from_cause else None)
        except RuntimeError as error:
            raise_signal_behind(error)
            pytest.fail("the signal is lost")


def test_no_signal_is_behind_an_error() -> None:
    raise_signal_behind(ValueError("mine"))


def test_errors_are_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_context_managers_end_before_a_terminated_process() -> None:
    done: list[str] = []
    with pytest.raises(TerminationSignal) as stop, SignalsRaise():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:  # noqa: BLE001 - as around an agent's code
            done.append("taken for an error")
        finally:
            done.append("tidied up")
    assert done == ["tidied up"]
    assert stop.value.code == 143


def test_ignored_signals_stay_ignored() -> None:
    """As after nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalsRaise(), signals_end_the_process():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_run_commands_without_handlers() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run_command(lambda: 4)))
    thread.start()
    thread.join()
    assert codes == [4]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_imports_end_at_once_in_one_line(name: str, code: int, child_environment: dict[str, str]) -> None:
    program = f"""
import signal
from opera_env.signals import signals_end_the_process
with signals_end_the_process():
    try:
        signal.raise_signal(signal.{name})
    except BaseException:
        print("swallowed")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr in ("interrupted\n", "terminated\n")


def test_a_closed_pipe_ends_a_command_quietly(child_environment: dict[str, str]) -> None:
    program = """
import sys
from opera_env.signals import run_command
def run():
    for number in range(100_000):
        print(number)
sys.exit(run_command(run))
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, env=child_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (141, "")


def test_another_broken_pipe_is_an_error() -> None:
    assert not output_has_no_reader()

    def run() -> int:
        raise BrokenPipeError("a server")

    with pytest.raises(BrokenPipeError, match="a server"):
        run_command(run)


def test_a_pipe_without_reader_is_seen(child_environment: dict[str, str]) -> None:
    program = (
        "import sys; from opera_env.signals import output_has_no_reader; sys.exit(output_has_no_reader())"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], env=child_environment, stdout=writer)
    os.close(writer)
    assert done.returncode == 1
