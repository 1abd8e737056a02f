"""The folder of a run: one trainer at a time, and the settings with which the run was started."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from opera_env.errors import RunError
from opera_env.files import atomic_write
from opera_env.leftovers import remove_leftovers

SETTINGS_FILE = "config.json"
_LOCK_FILE = ".lock"


def claim_run_dir(
    folder: Path, settings: Mapping[str, Any], mutable: Collection[str] = ()
) -> AbstractContextManager[Any]:
    """Locks the folder of a run, and writes the run's settings or compares them with those in the folder.

    Whatever can be wrong with a command should be found before, because this function is the first that
    writes to the folder: a trainer loads its toolbox, its photographs and its initial weights first.

    Args:
        folder: Folder of the run; created if it is absent.
        settings: Settings by name, in JSON types. Those that are identities (see
            :mod:`opera_env.runs.identity`) are compared by content.
        mutable: Names of settings that may change when a run is resumed. The file keeps their previous
            values under "previous", because a run that is resumed with more steps than it was started
            with ends with other weights than one that had them from the start.

    Returns:
        The lock, for a ``with`` statement. It ends with the process too, even if that is killed.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings.
    """
    with ExitStack() as stack:
        stack.enter_context(lock_path(folder / _LOCK_FILE, f"another process is training in {folder}"))
        for path in (folder, *filter(Path.is_dir, folder.iterdir())):
            remove_leftovers(path)
        _write_settings(folder, json.loads(json.dumps(dict(settings))), mutable)
        return stack.pop_all()


def _write_settings(folder: Path, settings: dict[str, Any], mutable: Collection[str]) -> None:
    """Writes settings to a folder, unless they differ from those that are there."""
    path = folder / SETTINGS_FILE
    saved_settings = read_settings(path) if path.is_file() else {}
    changed = describe_changes(saved_settings, settings) if saved_settings else {}
    if refused := [text for name, text in changed.items() if name not in mutable]:
        raise RunError(
            f"{folder} holds a run with other settings ({'; '.join(refused)}): choose another --out, or "
            f"use the settings in its {SETTINGS_FILE}."
        )
    previous = saved_settings.get("previous", [])
    if changed:
        print(f"{folder}: {'; '.join(changed.values())}")
        previous = [*previous, {name: saved_settings.get(name) for name in changed}]
    if previous:
        settings["previous"] = previous
    if saved_settings != settings:
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(settings, indent=2) + "\n")


def describe_changes(saved: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings that differ, old against new, by name; identities are compared by content.

    Example:
        >>> describe_changes({"seed": 0, "lr": 0.1}, {"seed": 0, "lr": 0.2})
        {'lr': 'lr 0.1, now 0.2'}
    """
    return {
        name: f"{name} {_format(saved.get(name))}, now {_format(value)}"
        for name, value in new.items()
        if not _are_equal(saved.get(name), value)
    }


def describe_progress(folder: Path, done: int, total: int, unit: str) -> str | None:
    """Returns a line that says where a run continues; None for a new run.

    Args:
        folder: Folder of the run.
        done: Number of finished units.
        total: Number of units that the settings ask for.
        unit: Name of the setting, such as "updates".

    Raises:
        RunError: If more units are done than the settings ask for.
    """
    if done > total:
        raise RunError(
            f"{folder} was trained for {done} {unit}, which cannot become {total}: set --{unit} to {done} "
            "or more, or choose another --out."
        )
    if done == total > 0:
        return f"{folder} is finished, {done} of {total} {unit}: raise --{unit} to train it further"
    return f"resuming {folder} after {done} of {total} {unit}" if done else None


def lock_path(path: Path, conflict: str) -> AbstractContextManager[Any]:
    """Takes the lock of a file, which the system frees when the process ends.

    Args:
        path: The lock file, which remains; its folder is created if it is absent.
        conflict: What another process that holds the lock is doing, for the error.

    Returns:
        The lock, for a ``with`` statement; it is also freed when this object is collected.

    Raises:
        RunError: If another process, or another run in this process, holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(path).acquire(timeout=0)
    except Timeout:
        raise RunError(f"{conflict}: wait until it ends, or choose another --out.") from None


def read_settings(path: Path) -> dict[str, Any]:
    """Reads the settings that :func:`claim_run_dir` wrote.

    Raises:
        RunError: If the file is damaged.
    """
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:  # of JSON, or of UTF-8
        raise RunError(_damaged(path, str(error))) from error
    if not isinstance(settings, dict):
        raise RunError(_damaged(path, f"found {type(settings).__name__}"))
    return settings


def _damaged(path: Path, reason: str) -> str:
    return (
        f"{path}: expected the settings of a run as JSON ({reason}): delete the file if the run in "
        f"{path.parent} had the settings of this command, or choose another --out."
    )


def _are_equal(saved: Any, new: Any) -> bool:
    if isinstance(saved, dict) and isinstance(new, dict) and "content" in new:
        return saved.get("content") == new["content"]
    if isinstance(saved, list) and isinstance(new, list):
        return len(saved) == len(new) and all(map(_are_equal, saved, new))
    return saved == new


def _format(value: Any) -> str:
    if isinstance(value, dict) and "content" in value:
        return f"{value.get('name')} (content {value['content']})"
    return repr(value)
