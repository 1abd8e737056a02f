"""Checkpoints of TRL with digests: a run resumes from the last one that is complete and undamaged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from opera_env.errors import RunError, error_message
from opera_env.files import atomic_write, file_sha256
from opera_env.json_files import read_object

DIGESTS_FILE = "digests.json"
"""File name of the SHA-256 of all other files of a checkpoint, which is written last."""

_NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointDigests(TrainerCallback):
    """Writes the digests of each checkpoint of a run in one process, after the checkpoint is complete."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.world_size == 1:
            write_digests(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def write_digests(folder: Path) -> None:
    """Writes the SHA-256 of every file of a checkpoint beside them."""
    digests = {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    digests.pop(DIGESTS_FILE, None)
    with atomic_write(folder / DIGESTS_FILE) as partial:
        partial.write_text(json.dumps(digests, indent=2) + "\n")


@contextmanager
def write_errors_explained(out: Path) -> Iterator[None]:
    """Explains the errors of the libraries that write checkpoints when a file cannot be written.

    Args:
        out: Folder of the run.

    Raises:
        RunError: In place of such an error.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        # torch raises errors of its own in place of that of the system.
        is_of_torch = any(word in str(error) for word in ("inline_container", "PytorchStream", "iostream"))
        if not is_of_torch and not isinstance(error, SafetensorError):
            raise
        raise RunError(
            f"{out}: a file cannot be written ({error_message(error)[:200]}): is the disk full? The same "
            "command resumes the run."
        ) from error


def find_checkpoint(out: Path, world_size: int = 1) -> Path | None:
    """Returns the last complete checkpoint of a run; None if there is none.

    A checkpoint without digests was being written when the process was killed: the one before it is used,
    with a notice, as in place of a damaged one. Checkpoints of several processes have no digests and are
    not checked.

    Args:
        out: Folder of the run.
        world_size: Number of processes that train.

    Raises:
        RunError: If no checkpoint can be used, and one of them is damaged.
    """
    if not out.is_dir():
        return None
    if world_size > 1:
        last = get_last_checkpoint(str(out))
        return None if last is None else Path(last)
    damages: list[str] = []
    for folder in sorted(out.iterdir(), key=step_of, reverse=True):
        if step_of(folder) < 0 or not folder.is_dir():
            continue
        if not (folder / DIGESTS_FILE).is_file():
            print(f"{folder} is incomplete: looking for the checkpoint before it")
            continue
        if (damage := _find_damage(folder)) is None:
            return folder
        damages.append(f"{folder}: {damage}")
        print(f"{damages[-1]}: looking for the checkpoint before it")
    if damages:
        raise RunError(
            f"{'; '.join(damages)}: no checkpoint of {out} can be used. Delete the folders of its "
            "checkpoints to train again from the beginning."
        )
    return None


def step_of(checkpoint: Path) -> int:
    """Returns the number of steps before a checkpoint; -1 for a path of another kind."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def _find_damage(folder: Path) -> str | None:
    """Compares the files of a checkpoint with their digests; returns the first difference in words."""
    try:
        digests = read_object(folder / DIGESTS_FILE, RunError, "The file is damaged").data
    except RunError as error:
        return error_message(error)
    for name, digest in digests.items():
        path = folder / Path(name).name
        if not path.is_file():
            return f"{name} is missing"
        if file_sha256(path) != digest:
            return f"{name} does not have the digest that it was written with"
    return None
