"""``opera-env serve``: what it refuses before it starts, and a server from start to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_env.cli import main
from opera_env.serving.client import ScoringClient
from tests.served import served_by_command


def test_other_machines_need_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPERA_ENV_TOKEN", raising=False)
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "--host 0.0.0.0: expected a token in the environment variable OPERA_ENV_TOKEN" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-queue", "0"], "--max-queue 0: expected a number of at least 1"),
        (["--toolbox", "no-such"], "no-such"),
        (["--images", "no-such"], "no-such"),
        (["--reward", "no-such"], "unknown reward 'no-such'"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", *arguments]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--toolbox", "lite", "--reward", "classic", "--port", port]) == 1
    assert "in use" in capsys.readouterr().err


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_end(
    photos: Path, small_toolbox: Path, child_environment: dict[str, str]
) -> None:
    command = ["--toolbox", str(small_toolbox), "--images", str(photos), "--canvas", "64"]
    command += ["--reward", "classic", "--device", "cpu", "--port", "0"]
    program = ("-m", "opera_env.cli", "serve")
    with served_by_command(*command, environment=child_environment, program=program) as (address, process):
        assert "unet.denoise" in ScoringClient(address).tool_names
        process.terminate()
        assert process.wait(300) == 143
