"""What all trainers do with the folder of a run, and with weights to start from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from opera_env.encoder import ImageEncoder
from opera_env.errors import AgentError, MissingWeightsError
from opera_env.files import atomic_write
from opera_env.weights import load_tensors

_ENCODER = "encoder."


def claim_run_dir(folder: Path, settings: Mapping[str, Any], may_change: Collection[str] = ()) -> None:
    """Writes what decides the result into a run's folder, or checks that it is that of the run in it.

    Args:
        folder: Made if absent.
        settings: JSON types by name.
        may_change: Settings that may differ between the parts of one run.

    Raises:
        AgentError: If the folder holds a run with other settings.
    """
    path, wanted = folder / "config.json", json.loads(json.dumps(dict(settings)))
    found = json.loads(path.read_text()) if path.is_file() else wanted
    changed = [
        f"{name} {found.get(name)!r}, now {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value and name not in may_change
    ]
    if changed:
        raise AgentError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): choose another --out, or "
            "the settings in its config.json."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_text(json.dumps(wanted, indent=2) + "\n")


def load_encoder(encoder: ImageEncoder, path: Path) -> None:
    """Gives an encoder trained weights.

    Args:
        encoder: Whose weights are replaced.
        path: Safetensors with the keys ``encoder.*``, as the detector's; other keys are ignored.

    Raises:
        MissingWeightsError: If there is no such file.
        AgentError: If it holds no such encoder.
    """
    if not path.is_file():
        remedy = "python -m opera_agents.planner.train --help"
        raise MissingWeightsError("an encoder to start from", path, remedy)
    tensors = {key: value.float() for key, value in load_tensors(path).items() if key.startswith(_ENCODER)}
    try:
        encoder.load_state_dict({key.removeprefix(_ENCODER): value for key, value in tensors.items()})
    except RuntimeError as error:
        raise AgentError(
            f"{path}: expected an encoder under {_ENCODER}*, found another one ({error}): leave out "
            "--encoder to start from nothing."
        ) from error
