"""Set-up that all trainers share: threads, settings, and encoder weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from opera_env.encoder import ImageEncoder
from opera_env.errors import AgentError, MissingWeightsError
from opera_env.runs import claim_run_dir, folder_name
from opera_env.weights.checkpoints import load_as_float32

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["claim_run_dir", "folder_name", "load_encoder", "run_settings", "set_threads"]

_PLANNER_PREFIX, _ENCODER_PREFIX, _WINDOW_PREFIX = "detector.", "encoder.", "encoder.image."


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
    left_out = {*exclude, "trust_code"}  # whether code may run does not change what it does
    return {name: value for name, value in asdict(config).items() if name not in left_out} | replaced


def load_encoder(encoder: ImageEncoder, path: Path) -> None:
    """Loads trained weights into an encoder.

    Args:
        encoder: The encoder whose weights are replaced.
        path: Safetensors file with the keys ``encoder.*``, such as a detector's, or ``detector.encoder.*``,
            such as a planner's; other keys are ignored. Of an encoder of the kind ``windows-1`` the network
            that sees single windows is loaded.

    Raises:
        MissingWeightsError: If there is no such file.
        AgentError: If the file does not hold the weights of this encoder.
    """
    if not path.is_file():
        remedy = "python -m opera_agents.planner.train --help"
        raise MissingWeightsError("an encoder to start from", path, remedy)
    named = {key.removeprefix(_PLANNER_PREFIX): value for key, value in load_as_float32(path).items()}
    prefix = _WINDOW_PREFIX if any(key.startswith(_WINDOW_PREFIX) for key in named) else _ENCODER_PREFIX
    weights = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise AgentError(
            f"{path}: expected an encoder under {_ENCODER_PREFIX}*, found another one ({error}): leave out "
            "--encoder to start with random weights."
        ) from error
