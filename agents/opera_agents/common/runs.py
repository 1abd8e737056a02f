"""Set-up that all trainers share: threads, the run's folder and settings, and encoder weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from opera_env.degradations import load_degradations
from opera_env.encoder import ImageEncoder
from opera_env.errors import AgentError, MissingWeightsError
from opera_env.files import atomic_write
from opera_env.weights.checkpoints import load_as_float32

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_ENCODER_PREFIX = "encoder."


def set_threads(threads: int) -> None:
    """Sets the number of CPU threads of PyTorch and OpenCV."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def run_settings(config: DataclassInstance, exclude: Collection[str], **replaced: Any) -> dict[str, Any]:
    """Returns the settings that determine a run's result, without paths of this machine.

    Args:
        config: The configuration of a trainer.
        exclude: Names of fields that are left out: paths, and settings of the machine alone.
        replaced: Values that stand for fields, such as a folder's name for its path.
    """
    return {name: value for name, value in asdict(config).items() if name not in exclude} | replaced


def folder_name(folder: Path) -> str:
    """Returns the last two parts of a folder's path, which name a data set on any machine.

    Example:
        >>> folder_name(Path("/data/bsds500/train"))
        'bsds500/train'
    """
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}"


def claim_run_dir(folder: Path, settings: Mapping[str, Any], mutable: Collection[str] = ()) -> None:
    """Writes a run's settings to its folder, or checks that the run in the folder has the same settings.

    A name of custom degradations is checked first: a misspelled one would otherwise occupy the folder.

    Args:
        folder: Folder of the run; created if it is absent.
        settings: Settings by name, in JSON types.
        mutable: Names of settings that may change when a run is resumed.

    Raises:
        AgentError: If the folder holds a run with other settings.
        SampleError: If the setting "degradations" names no degradations.
    """
    load_degradations(settings.get("degradations"))
    path, new_settings = folder / "config.json", json.loads(json.dumps(dict(settings)))
    saved_settings = json.loads(path.read_text()) if path.is_file() else new_settings
    changed = [
        f"{name} {saved_settings.get(name)!r}, now {value!r}"
        for name, value in new_settings.items()
        if saved_settings.get(name) != value and name not in mutable
    ]
    if changed:
        raise AgentError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): choose another --out, or "
            "use the settings in its config.json."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(new_settings, indent=2) + "\n")


def load_encoder(encoder: ImageEncoder, path: Path) -> None:
    """Loads trained weights into an encoder.

    Args:
        encoder: The encoder whose weights are replaced.
        path: Safetensors file with the keys ``encoder.*``, such as a detector's; other keys are ignored.

    Raises:
        MissingWeightsError: If there is no such file.
        AgentError: If the file does not hold the weights of this encoder.
    """
    if not path.is_file():
        remedy = "python -m opera_agents.planner.train --help"
        raise MissingWeightsError("an encoder to start from", path, remedy)
    weights = {
        key.removeprefix(_ENCODER_PREFIX): value
        for key, value in load_as_float32(path).items()
        if key.startswith(_ENCODER_PREFIX)
    }
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise AgentError(
            f"{path}: expected an encoder under {_ENCODER_PREFIX}*, found another one ({error}): leave out "
            "--encoder to start with random weights."
        ) from error
