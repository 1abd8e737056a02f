"""Settings hold no paths, and encoders are started from trained weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import torch

from opera_agents.common.runs import folder_name, load_encoder, run_settings, set_threads
from opera_agents.planner.policy import PlanPolicy
from opera_env.encoder import Detector, ImageEncoder, WindowedEncoder
from opera_env.errors import AgentError, MissingWeightsError
from opera_env.weights.checkpoints import save_half


@dataclass(frozen=True)
class Config:
    """A trainer's settings."""

    images: Path
    out: Path
    lr: float = 1e-3
    weights: tuple[float, float] = (1.0, 2.0)


def test_settings_hold_names_instead_of_paths(tmp_path: Path) -> None:
    images = tmp_path / "bsds500" / "train"
    config = Config(images, tmp_path / "run")
    settings = run_settings(config, exclude=("out",), images=folder_name(images), system="text")
    expected = {"images": "bsds500/train", "lr": 1e-3, "weights": (1.0, 2.0), "system": "text"}
    assert settings == expected


def test_threads_are_set_for_both_libraries() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        set_threads(1)
        assert torch.get_num_threads() == 1 and cv2.getNumThreads() == 1
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_encoder_starts_with_the_weights_of_a_detector(tmp_path: Path) -> None:
    detector, encoder = Detector(3), ImageEncoder()
    save_half(detector.state_dict(), tmp_path / "detector.safetensors")
    load_encoder(encoder, tmp_path / "detector.safetensors")
    expected = detector.encoder.state_dict()
    assert all(
        torch.equal(value, expected[key].half().float()) for key, value in encoder.state_dict().items()
    )


def test_encoder_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="encoder to start from"):
        load_encoder(ImageEncoder(), tmp_path / "absent.safetensors")
    save_half({"encoder.other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AgentError, match="leave out --encoder"):
        load_encoder(ImageEncoder(), tmp_path / "other.safetensors")


def test_the_encoder_of_a_planner_and_that_of_windows_are_loaded(tmp_path: Path) -> None:
    windows = WindowedEncoder()
    cases = {
        "planner": (policy := PlanPolicy(4, 8, 3), policy.detector.encoder),
        "windows": (Detector(8, windows), windows.image),
        "windows of a planner": (PlanPolicy(4, 9, 3, encoder=windows), windows.image),
    }
    for name, (module, expected) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        save_half(module.state_dict(), path)
        loaded = ImageEncoder()
        load_encoder(loaded, path)
        for key, value in expected.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value.half().float()), (name, key)
