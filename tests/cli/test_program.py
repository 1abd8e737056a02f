"""Programs end with an exit code and one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from opera_env.cli.program import program_code
from opera_env.errors import RunError, SettingError
from opera_env.runs import PositiveInt, check_settings
from opera_env.signal_handlers import TerminationSignal


@dataclass(frozen=True)
class Config:
    """Trains a thing."""

    images: Path
    """Folder of photographs."""
    out: Path = Path("runs/thing")
    """Folder of the run."""
    steps: PositiveInt = 3
    """Number of steps."""

    def __post_init__(self) -> None:
        check_settings(self)


def failing(error: BaseException) -> Callable[[Config], None]:
    def main(config: Config) -> None:
        raise error

    return main


def test_a_program_gets_its_settings() -> None:
    configs: list[Config] = []
    assert program_code(Config, configs.append, ["--images", "a", "--steps", "5"]) == 0
    assert configs == [Config(Path("a"), steps=5)]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunError("a folder\nholds  another run."), 1, "error: a folder holds  another run."),
        (ValueError("odd"), 1, "error: ValueError: odd (--debug prints the traceback)"),
        (OSError(28, "No space left on device"), 1, "error: runs/thing: No space left on device"),
        (OSError(13, "Permission denied", "a.pt"), 1, "error: a.pt: Permission denied"),
        (SettingError("lr", "nan", "a number"), 2, "error: --lr nan: expected a number."),
        (KeyboardInterrupt(), 130, "interrupted: the same command resumes runs/thing"),
        (TerminationSignal(15, "terminated"), 143, "terminated: the same command resumes runs/thing"),
    ],
)
def test_errors_are_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program_code(Config, failing(error), ["--images", "a"]) == code
    assert capsys.readouterr().err == line + "\n"


def test_a_number_out_of_range_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert program_code(Config, failing(AssertionError()), ["--images", "a", "--steps", "0"]) == 2
    assert capsys.readouterr().err == "error: --steps 0: expected a number of at least 1.\n"


def test_debug_raises_the_error() -> None:
    with pytest.raises(RunError):
        program_code(Config, failing(RunError("no")), ["--images", "a", "--debug"])


def test_the_description_is_that_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program_code(Config, failing(AssertionError()), ["--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and "Trains a thing." in out and "Folder of the run." in out
    with pytest.raises(SystemExit) as ended:
        program_code(Config, failing(AssertionError()), ["--imagse", "a"])
    assert ended.value.code == 2
