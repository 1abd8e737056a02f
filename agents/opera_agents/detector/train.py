"""Trains the degradation detector: supervised, on crops of several sizes of several sets of photographs.

Example:
    python -m opera_agents.detector.train --images bsds500/train photos --val bsds500/val

A run may be interrupted at any time: the same command resumes it from the last checkpoint, and it ends with
the same weights as an uninterrupted run. TensorBoard shows the curves. The run ends with thresholds chosen
on training photographs, and with a calibration figure of the validation samples.

Source: the paper's model predicts degradations in words, before its plan; R_d rewards it. Here the encoder
    that the planner, PPO and the critic share learns to see before any of them learns to act.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from rich.progress import track
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import draw_samples, label_targets, observe_batch, prefetch
from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.folders import (
    all_degradations,
    check_validation,
    identify_photographs,
    load_custom_degradations,
    validation_samples,
)
from opera_agents.common.photographs import check_photographs, training_source
from opera_agents.common.runs import run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.detector.config import DetectorConfig
from opera_agents.detector.scores import (
    DetectionScores,
    fit_thresholds,
    plot_calibration,
    predict_logits,
    score_detections,
)
from opera_agents.planner.saved import load_weights
from opera_env.cli.program import run_program
from opera_env.data import Source
from opera_env.degradations import load_degradations
from opera_env.encoder import Detector, make_encoder
from opera_env.files import atomic_write
from opera_env.runs import claim_run_dir, describe_progress, identify_file
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.types import Sample
from opera_env.weights.checkpoints import save_half


def training_sources(config: DetectorConfig) -> dict[int, Source]:
    """Returns the sources of training samples by the size of their crops."""
    return {
        size: training_source(
            config.images,
            size,
            config.out / "enlarged" if config.enlarged else None,
            config.clean_weight,
            degradation_count_weights=config.degradation_count_weights,
            degradations=load_degradations(config.degradations),
        )
        for size in sorted(set(config.crop_sizes))
    }


def draw_batch(sources: dict[int, Source], config: DetectorConfig, step: int) -> list[Sample]:
    """Draws the samples of a step, all with crops of one size, as a function of the seed and the step.

    Larger crops come in smaller batches, so that all steps take about the same time.
    """
    rng = make_rng(config.seed, SeedStage.DETECTOR, step)
    size = config.crop_sizes[int(rng.integers(len(config.crop_sizes)))]
    count = max(1, config.batch_size * min(config.crop_sizes) ** 2 // size**2)
    return draw_samples(sources[size], count, rng)


def train(config: DetectorConfig) -> DetectionScores:
    """Trains a detector; returns its scores on the validation samples.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more steps, or with damaged files.
        SampleError: If a crop size is larger than the photographs.
    """
    # Set-up: data, detector. Nothing is written before all that was named has been found.
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    custom = load_custom_degradations(config.images, config.degradations)
    check_validation(config.images, config.val)
    val = validation_samples(config.val, 128, config.val_count, custom)
    labels = tuple(all_degradations(config.images, custom))
    check_photographs(config.images, config.crop_sizes, "--crop-sizes")
    detector = Detector(len(labels), make_encoder(config.encoder))
    if config.initial_weights is not None:
        load_weights(detector, config.initial_weights)
    inputs = {
        "images": identify_photographs(*config.images),
        "val": identify_photographs(config.val),
        "initial_weights": identify_file(config.initial_weights),
        # None for the default, so that runs from before there was a choice can be resumed.
        "encoder": None if config.encoder == "image" else config.encoder,
    }
    settings = run_settings(config, exclude=("out", "threads"), **inputs)
    state = load_checkpoint(config.out / "checkpoint.pt", config.device)
    progress = describe_progress(config.out, state["step"] if state else 0, config.steps, "steps")
    with claim_run_dir(config.out, settings, mutable=("steps",)):
        if progress is not None:
            print(progress)
        sources = training_sources(config)
        run_steps(config, detector, sources, val, labels, state)
        return save_detector(detector.eval(), config, settings, sources, val, labels)


def run_steps(
    config: DetectorConfig,
    detector: Detector,
    sources: dict[int, Source],
    val: list[Sample],
    labels: tuple[str, ...],
    state: Mapping[str, Any] | None,
) -> None:
    """Trains a detector in the folder of its run.

    Args:
        config: The settings.
        detector: The detector, with its initial weights.
        sources: Sources of training samples, by the size of their crops.
        val: Validation samples.
        labels: Names of the degradations, in the order of the detector's outputs.
        state: The checkpoint to resume from; None starts with the first step.
    """
    device = torch.device(config.device)
    detector.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    val_targets = label_targets(val, labels)
    optimizer = torch.optim.AdamW(
        detector.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    start_step = 0
    if state is not None:
        detector.load_state_dict(state["detector"])
        optimizer.load_state_dict(state["optimizer"])
        start_step = state["step"]
    writer = SummaryWriter(str(config.out), purge_step=start_step + 1)

    steps = range(start_step, config.steps)
    batches = prefetch(lambda step: draw_batch(sources, config, step), steps)
    for step, samples in zip(track(steps, "detector", disable=not steps), batches, strict=True):
        images = observe_batch(samples, 0, device)
        if make_rng(config.seed, SeedStage.DETECTOR, step, stream=1).random() < 0.5:
            images = images.flip(-1)
        targets = label_targets(samples, labels).to(device)
        set_learning_rate(optimizer, config.lr * warmup_cosine(step, config.steps, warmup=200))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast):
            logits = detector(images)
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()

        # Log, validate and save.
        global_step, is_last = step + 1, step + 1 == config.steps
        if global_step % 50 == 0:
            writer.add_scalar("train/cross_entropy", loss.item(), global_step)
        if global_step % config.val_every == 0 or is_last:
            detector.eval()
            scores = score_detections(predict_logits(detector, val, device), val_targets)
            detector.train()
            for name in ("cross_entropy", "exact_set", "f1", "calibration_error"):
                writer.add_scalar(f"val/{name}", getattr(scores, name), global_step)
            for name, recall in zip(labels, scores.recall, strict=True):
                writer.add_scalar(f"val_recall/{name}", recall, global_step)
            print(f"step {global_step}/{config.steps}: {format_scores(scores)}", flush=True)
            state = {"detector": detector.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(config.out / "checkpoint.pt", state | {"step": global_step})
    writer.close()


def save_detector(
    detector: Detector,
    config: DetectorConfig,
    settings: dict[str, Any],
    sources: dict[int, Source],
    val: list[Sample],
    labels: tuple[str, ...],
) -> DetectionScores:
    """Writes the weights, the calibration figure, and settings, thresholds and scores as JSON."""
    device = torch.device(config.device)
    # Batches beyond the last step were not trained on; their photographs were.
    fresh: list[Sample] = []
    step = config.steps
    while len(fresh) < config.calibration_count:
        fresh += draw_batch(sources, config, step)
        step += 1
    thresholds = fit_thresholds(predict_logits(detector, fresh, device), label_targets(fresh, labels))
    logits, targets = predict_logits(detector, val, device), label_targets(val, labels)
    scores = score_detections(logits, targets)
    with_thresholds = score_detections(logits, targets, torch.tensor(thresholds))
    save_half(detector.state_dict(), config.out / "detector.safetensors")
    plot_calibration(logits, targets, labels, config.out / "calibration.png")
    record = {
        "labels": labels,
        "encoder": config.encoder,
        "thresholds": [round(threshold, 2) for threshold in thresholds],
        "training": settings,
        "scores": scores.to_json(),
        "scores_with_thresholds": with_thresholds.to_json(),
    }
    with atomic_write(config.out / "detector.json") as part:
        part.write_text(json.dumps(record, indent=2) + "\n")
    print(f"thresholds of 0.5: {format_scores(scores)}")
    print(f"thresholds {record['thresholds']}: {format_scores(with_thresholds)}")
    return scores


def format_scores(scores: DetectionScores) -> str:
    """Formats scores in one line."""
    recall = " ".join(f"{value:.2f}" for value in scores.recall)
    return (
        f"cross-entropy {scores.cross_entropy:.4f}, exact set {scores.exact_set:.3f}, F1 {scores.f1:.3f}, "
        f"calibration error {scores.calibration_error:.3f}, recall {recall}"
    )


if __name__ == "__main__":
    run_program(DetectorConfig, train)
