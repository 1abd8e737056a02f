"""The detector's trainer: resumes to the same weights, and writes weights, thresholds and a figure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_agents.common.batches import label_targets
from opera_agents.common.folders import plain_folders
from opera_agents.detector import train as train_module
from opera_agents.detector.config import DetectorConfig
from opera_agents.detector.evaluate import EvaluateConfig, evaluate
from opera_agents.detector.train import draw_batch, train, training_sources
from opera_baselines.detect import load_detector
from opera_env.degradations.real import REAL_LABELS
from opera_env.encoder import WindowedEncoder
from opera_env.errors import RunError, SampleError
from opera_env.weights.tensors import load_tensors


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> DetectorConfig:
    return DetectorConfig(
        (photos,),
        photos,
        tmp_path / "run",
        steps=4,
        batch_size=4,
        crop_sizes=(48, 64),
        val_every=2,
        val_count=4,
        calibration_count=8,
        enlarged=False,
        device="cpu",
    )


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_run(
    config: DetectorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config)
    interrupted = replace(config, out=tmp_path / "interrupted")
    save = train_module.save_checkpoint

    def save_and_stop(*arguments: object) -> None:
        save(*arguments)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted)
    monkeypatch.setattr(train_module, "save_checkpoint", save)
    train(interrupted)
    first, second = (load_tensors(run.out / "detector.safetensors") for run in (config, interrupted))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_run_writes_a_detector_with_thresholds_and_scores(config: DetectorConfig) -> None:
    scores = train(config)
    assert (config.out / "calibration.png").is_file()
    record = json.loads((config.out / "detector.json").read_text())
    assert record["scores"]["cross_entropy"] == pytest.approx(scores.cross_entropy)
    assert len(record["thresholds"]) == len(record["labels"]) == 8
    assert "NaN" not in (config.out / "detector.json").read_text()
    assert all(0 < threshold < 1 for threshold in record["thresholds"])
    detector = load_detector(config.out / "detector.safetensors")
    again = train(
        replace(
            config,
            out=config.out.parent / "again",
            initial_weights=config.out / "detector.safetensors",
            steps=1,
            lr=0.0,
        )
    )
    assert again.cross_entropy == pytest.approx(scores.cross_entropy, abs=1e-2)
    assert not detector.training


def test_batches_depend_on_the_step_alone_and_have_one_size(config: DetectorConfig) -> None:
    sources = training_sources(config)
    sizes = set()
    for step in range(8):
        first, again = draw_batch(sources, config, step), draw_batch(sources, config, step)
        assert [sample.spec for sample in first] == [sample.spec for sample in again]
        (size,) = {sample.canvas for sample in first}
        assert len(first) == (4 if size == (48, 48) else 2)
        sizes.add(size)
    assert sizes == {(48, 48), (64, 64)}


def test_several_folders_are_drawn_in_proportion_to_their_photographs(
    config: DetectorConfig, photos: Path
) -> None:
    config = replace(config, images=(photos, photos), batch_size=400, crop_sizes=(64,))
    samples = draw_batch(training_sources(config), config, 0)
    assert np.unique([sample.spec.index for sample in samples]).size > 1


def test_a_size_that_no_folder_has_is_refused(config: DetectorConfig) -> None:
    with pytest.raises(SampleError, match=r"crops of 4096 pixels.*--crop-sizes"):
        train(replace(config, crop_sizes=(64, 4096)))


def test_nothing_to_do_is_the_absence_of_labels_of_real_damage(config: DetectorConfig) -> None:
    real = Path(f"real:{config.val}")
    config = replace(config, images=(real,), val=real)
    train(config)
    record = json.loads((config.out / "detector.json").read_text())
    assert tuple(record["labels"]) == REAL_LABELS and len(record["thresholds"]) == len(REAL_LABELS)
    assert record["training"]["images"]["content"].startswith("real:")
    samples = [
        sample for step in range(12) for sample in draw_batch(training_sources(config), config, step)
    ]
    untouched = [sample for sample in samples if not sample.spec.recipe]
    assert untouched and not label_targets(untouched, REAL_LABELS).any()
    with pytest.raises(SampleError, match="expected --val real:FOLDER"):
        train(replace(config, val=plain_folders([real])[0], out=config.out / "other"))


def test_a_detector_that_sees_windows_is_saved_with_its_version(config: DetectorConfig) -> None:
    config = replace(config, encoder="windows-1", steps=1)
    train(config)
    assert json.loads((config.out / "detector.json").read_text())["encoder"] == "windows-1"
    detector = load_detector(config.out / "detector.safetensors")
    assert isinstance(detector.encoder, WindowedEncoder)
    with pytest.raises(RunError, match="encoder 'windows-1'"):
        train(replace(config, encoder="image"))
    evaluate(EvaluateConfig(config.out / "detector.safetensors", images=str(config.val), n=2, device="cpu"))
