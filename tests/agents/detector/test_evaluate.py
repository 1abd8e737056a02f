"""The evaluation of a detector: its scores, and the damage that each degradation does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opera_agents.detector.config import DetectorConfig
from opera_agents.detector.evaluate import EvaluateConfig, damage, damages, evaluate
from opera_agents.detector.train import train
from opera_env.data import bundled
from opera_env.errors import MissingWeightsError
from opera_env.types import Sample


def make(recipe: tuple[str, ...], index: int = 0) -> Sample:
    source = bundled(64)
    return source.make(replace(source.list_specs(8, [recipe], np.random.default_rng(3))[index]))


def test_the_damage_of_the_only_degradation_is_all_of_it() -> None:
    sample = make(("noise",))
    assert sample.reference is not None
    error = (sample.lq - sample.reference).square().mean().item()
    assert damage(sample, "noise") == pytest.approx(80 + 10 * np.log10(error + 1e-8), abs=1e-3)


def test_damage_is_measured_beside_the_other_degradations() -> None:
    both = make(("low_light", "noise"))
    assert 0 < damage(both, "noise") < damage(both, "low_light")  # the dark image is far from the clean one
    small = make(("motion_blur", "low_resolution"))
    assert damage(small, "low_resolution") > 0


def test_found_and_missed_ones_are_counted_apart() -> None:
    samples = [make(("noise",)), make(("noise",), 1), make(("haze",))]
    found = damages(samples, ("noise", "haze"), np.array([[True, False], [False, True], [True, False]]))
    assert found["noise"]["found"]["samples"] == found["noise"]["missed"]["samples"] == 1
    assert found["noise"]["missed"]["db"] == pytest.approx(damage(samples[1], "noise"))
    assert found["haze"] == {
        "found": {"samples": 0, "db": None},
        "missed": {"samples": 1, "db": pytest.approx(damage(samples[2], "haze"))},
    }


@pytest.mark.slow
def test_a_trained_detector_is_evaluated(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        DetectorConfig(
            images=(photos,),
            val=photos,
            out=tmp_path,
            steps=2,
            batch_size=2,
            crop_sizes=(64,),
            val_count=4,
            calibration_count=4,
            enlarged=False,
        )
    )
    weights, file = tmp_path / "detector.safetensors", tmp_path / "scores.json"
    capsys.readouterr()
    results = evaluate(EvaluateConfig(weights, str(photos), n=16, canvas=64, json=file))
    assert json.loads(file.read_text())["samples"] == results["samples"] == 16
    printed = capsys.readouterr().out
    assert "thresholds 0.5: exact set" in printed and "motion_blur" in printed
    assert {row["found"]["samples"] + row["missed"]["samples"] for row in results["damage"].values()} != {0}


def test_absent_weights_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "detector.json").write_text('{"labels": ["noise"], "thresholds": [0.5]}')
    with pytest.raises(MissingWeightsError):
        evaluate(EvaluateConfig(tmp_path / "detector.safetensors"))
