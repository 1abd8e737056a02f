"""Checkpoints of TRL with digests: incomplete and damaged ones are not resumed from."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError
from transformers import TrainerControl, TrainerState, TrainingArguments

from opera_agents.vlm.checkpoints import (
    DIGESTS_FILE,
    CheckpointDigests,
    find_checkpoint,
    step_of,
    write_errors_explained,
)
from opera_env.errors import RunError


def save(out: Path, step: int, complete: bool = True) -> Path:
    """Writes a checkpoint as the library and the callback do."""
    folder = out / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt"):
        (folder / name).write_bytes(f"{name} after {step} steps".encode())
    if complete:
        args, state = TrainingArguments(str(out), use_cpu=True), TrainerState(global_step=step)
        CheckpointDigests().on_save(args, state, TrainerControl())
    return folder


def test_the_last_complete_checkpoint_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert find_checkpoint(out) is None
    first, second = save(out, 8), save(out, 10)
    (out / "model").mkdir()
    (out / "checkpoint-x").touch()
    assert find_checkpoint(out) == second
    assert [step_of(path) for path in (first, second, out / "model")] == [8, 10, -1]
    killed = save(out, 12, complete=False)
    assert find_checkpoint(out) == second
    assert f"{killed} is incomplete" in capsys.readouterr().out
    assert find_checkpoint(out, world_size=2) == killed, "several processes write no digests"


def test_a_run_that_was_killed_during_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    save(tmp_path, 2, complete=False)
    assert find_checkpoint(tmp_path) is None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", DIGESTS_FILE])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "absent"])
def test_damaged_checkpoints_are_not_used(
    tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = save(tmp_path, 2), save(tmp_path, 4)
    for folder in (second, first):
        path = folder / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        contents = {"truncated": data[:-5], "flipped": data, "empty": b""}
        path.unlink() if damage == "absent" else path.write_bytes(contents[damage])
        if folder == second:
            assert find_checkpoint(tmp_path) == first
            assert str(second) in capsys.readouterr().out
    if (name, damage) == (DIGESTS_FILE, "absent"):
        assert find_checkpoint(tmp_path) is None
        return
    with pytest.raises(RunError, match=r"checkpoint-4.*checkpoint-2.*train again") as caught:
        find_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_written_again_gets_new_digests(tmp_path: Path) -> None:
    folder = save(tmp_path, 2)
    (folder / "optimizer.pt").write_bytes(b"other")
    with pytest.raises(RunError):
        find_checkpoint(tmp_path)
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    CheckpointDigests().on_save(args, TrainerState(global_step=2), TrainerControl())
    assert find_checkpoint(tmp_path) == folder


def test_errors_of_writing_name_the_run(tmp_path: Path) -> None:
    for error in (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 976576 vs 976468"),
        RuntimeError("basic_ios::clear: iostream error"),
        SafetensorError("Error while serializing: I/O error: No space left on device"),
    ):
        with (
            pytest.raises(RunError, match=rf"{tmp_path}: .*is the disk full"),
            write_errors_explained(tmp_path),
        ):
            raise error
    with pytest.raises(RuntimeError, match="CUDA"), write_errors_explained(tmp_path):
        raise RuntimeError("CUDA out of memory")
