"""The command line of GRPO training: errors name the setting, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

pytest.importorskip("trl", reason="TRL is not installed: pip install 'opera-env[agents]'")

from opera_agents.vlm import grpo
from opera_agents.vlm.command_line import parse_arguments

TINY = Path(grpo.__file__).with_name("presets") / "tiny.yaml"

COMPLETE = ["--config", str(TINY), "--images", "a", "--val", "b", "--model_name_or_path", "c"]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Returns the only line that was printed, on standard error."""
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_settings_are_read_from_command_and_file() -> None:
    env_args, training_args, model_args = parse_arguments([*COMPLETE, "--max_steps", "7"])
    assert (env_args.images, training_args.max_steps, model_args.model_name_or_path) == (["a"], 7, "c")
    assert training_args.save_total_limit == 2


def test_presets_are_named_and_files_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = parse_arguments(["--config", "tiny", *COMPLETE[2:]])
    assert named[1].learning_rate == yaml.safe_load(TINY.read_text())["learning_rate"] != 0.125
    Path("tiny").write_text("learning_rate: 0.125\nuse_cpu: true\nbf16: false\n")
    assert parse_arguments(["--config", "tiny", *COMPLETE[2:]])[1].learning_rate == 0.125


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "a"], "arguments are required: --val"),
        ([], "arguments are required: --images, --val"),
        ([*COMPLETE, "--imagse", "x"], "unknown setting --imagse. Did you mean '--images'?"),
        ([*COMPLETE, "--max_steps", "many"], "invalid int value: 'many'"),
        (
            [*COMPLETE, "--reward_from", "gated"],
            "unknown setting --reward_from. Did you mean",
        ),
        ([*COMPLETE, "stray"], "found 'stray'"),
        ([*COMPLETE, "--tool_cost", "nan"], "--tool-cost nan: expected"),
        ([*COMPLETE, "--learning_rate", "nan"], "--learning-rate nan: expected a finite number"),
        ([*COMPLETE, "--reward_form", "sum"], "--reward-form sum: expected product or gated"),
        ([*COMPLETE, "--num_generations", "7"], "7"),
        ([*COMPLETE, "--trust_remote_code", "true"], "code of models is never run"),
        (
            [*COMPLETE[2:], "--use_cpu", "true", "--bf16", "false", "--model_name_or_path", ""],
            "the folder or the name",
        ),
        (["--config", "no/such.yaml"], "no/such.yaml"),
        (["--config", "tyni"], "--config tyni: expected a file or a preset (tiny, tiny-turns, 7b)"),
        (["--config"], "--config"),
    ],
)
def test_errors_are_one_line_that_names_the_setting(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = grpo.main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in last_line(capsys)


@pytest.mark.parametrize("text", ["learning_rat: 1e-4\n", "- a\n", "a: [\n", "\xff"])
def test_files_of_settings_are_checked(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(["--config", str(path), *COMPLETE[2:]])
    last_line(capsys)


def test_other_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grpo.main([*COMPLETE, "--output_dir", str(tmp_path / "run")]) == 1
    assert last_line(capsys).startswith("error: a: expected a folder of images")
    assert not (tmp_path / "run").exists()
