"""Trains single tools, each alone on one degradation.

Example:
    opera-env tools train unet.denoise --images DIR --val DIR --out runs/lite

Training can be interrupted at any time: the same command resumes from the last checkpoint. TensorBoard
shows curves and sample images from the same folder.

Source: the Charbonnier loss, AdamW, linear warm-up and cosine decay to zero are common practice for small
restoration networks. The paper uses published tools.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from opera_env.data.images import list_images, quantise, read_images, resize
from opera_env.devices import resolve_device, supports_bfloat16
from opera_env.errors import MissingWeightsError, ToolboxError
from opera_env.files import atomic_write
from opera_env.metrics.lpips_alex import LpipsAlex
from opera_env.runs import claim_run_dir, describe_progress, folder_name, identify_images
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tool_training.config import TrainConfig
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.losses import charbonnier, zero_reference_loss
from opera_env.tool_training.patches import (
    Pair,
    collate_by_size,
    collate_pairs,
    training_pair,
    validation_pair,
)
from opera_env.tool_training.pools import find_spec
from opera_env.tools import Toolbox
from opera_env.tools.nets import LocalToneCurve, build_net
from opera_env.tools.toolbox import shipped_toolboxes
from opera_env.weights.checkpoints import load_as_float32, load_checkpoint, save_checkpoint, save_half


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Returns the PSNR over RGB in dB, (B,), of 8-bit images (B, 3, H, W)."""
    error = (image.double() - reference.double()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255**2 / error.clamp_min(1e-2))


@torch.inference_mode()
def validate(net: nn.Module, pairs: Sequence[Pair], device: torch.device) -> dict[str, Any]:
    """Measures the gain in PSNR over the degraded, or bicubically enlarged, images.

    Args:
        net: The network; in training mode afterwards.
        pairs: Degraded and clean images.
        device: Device of the network.

    Returns:
        ``psnr_before`` and ``psnr_gain``, means in dB; ``worse``, the number of images whose PSNR falls;
        ``images``, the number of images; and ``image_grid``, uint8 (3, H, W), the first four images as
        input, result and reference.
    """
    net.eval()
    gains: list[float] = []
    before: list[float] = []
    panels: list[Tensor] = []
    for pair in pairs:
        degraded, clean = collate_pairs([pair])
        size = (clean.shape[-2], clean.shape[-1])
        restored = quantise(resize(net(degraded.to(device)), size).cpu())
        unrestored, reference = quantise(resize(degraded, size)), quantise(clean)
        before.append(psnr(unrestored, reference).item())
        gains.append(psnr(restored, reference).item() - before[-1])
        if len(panels) < 4:
            panels.append(torch.cat([unrestored[0], restored[0], reference[0]], dim=-1))
    net.train()
    return {
        "psnr_before": float(np.mean(before)),
        "psnr_gain": float(np.mean(gains)),
        "worse": int(np.sum(np.array(gains) < 0)),
        "images": len(gains),
        "image_grid": torch.cat(panels, dim=-2),
    }


def load_trained_weights(out: Path, name: str) -> dict[str, Tensor]:
    """Reads the weights of a trained tool as float32.

    Args:
        out: Output folder of the training.
        name: Name of the tool.

    Raises:
        MissingWeightsError: If the tool has not been trained.
    """
    path = out / name / "tool.safetensors"
    if not path.is_file():
        remedy = f"opera-env tools train {name} --images DIR --val DIR --out {out}"
        raise MissingWeightsError(f"tool {name!r} is not trained", path, remedy)
    return load_as_float32(path)


def load_initial_weights(net: nn.Module, spec: ToolSpec, config: TrainConfig) -> None:
    """Gives a network the weights of the tool that it starts from, if its spec names one.

    Raises:
        MissingWeightsError: If that tool is one of the same pool and has not been trained.
        UnknownToolError: If the toolbox has no such tool.
        ToolboxError: If that tool is no network, or one of other options.
    """
    if spec.init_from is not None:
        net.load_state_dict(load_trained_weights(config.out, spec.init_from))
    if spec.initial_tool is None:
        return
    name = config.initial_toolbox or "lite"
    tool = Toolbox.load(name)[spec.initial_tool]
    if tool.net is None or tool.net[0] != spec.net or dict(tool.net[1]) != _as_saved(spec.options):
        raise ToolboxError(
            f"{spec.name} starts from {spec.initial_tool} of {name}: expected the network {spec.net} with "
            f"the options {dict(spec.options)}, found {tool.net}; choose another --initial-toolbox."
        )
    assert tool.module is not None
    net.load_state_dict(tool.module.state_dict())


def _as_saved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options as a manifest holds them."""
    return json.loads(json.dumps(dict(options)))


def export_tool(
    net: nn.Module, spec: ToolSpec, config: TrainConfig, val_metrics: dict[str, Any], folder: Path
) -> None:
    """Writes the weights as float16 safetensors, and a record of the training as JSON.

    Args:
        net: The trained network.
        spec: The spec of the tool.
        config: The settings of the training.
        val_metrics: The metrics of the last validation; see :func:`validate`.
        folder: Output folder of the tool.
    """
    save_half(net.state_dict(), folder / "tool.safetensors")
    data, validation = folder_name(*config.images), folder_name(config.val)
    pool = "" if config.pool == "lite" else f"--pool {config.pool} "
    steps, lr = config.steps or spec.steps, spec.lr if config.lr is None else config.lr
    start = spec.init_from
    if spec.initial_tool is not None:
        toolbox = config.initial_toolbox or "lite"
        toolbox = toolbox if toolbox in shipped_toolboxes() else folder_name(Path(toolbox))
        start = f"{toolbox}/{spec.initial_tool}"
    options = "".join(f" {option}" for option in _changed_options(config))
    record = {
        "pool": config.pool,
        "command": f"opera-env tools train {spec.name} {pool}--images {data} --val {validation} "
        f"--steps {steps} --lr {lr:g} --seed {config.seed}{options}",
        "data": data,
        "validation": validation,
        "steps": steps,
        **({} if start is None else {"start": start}),
        **{key: value for key, value in val_metrics.items() if key != "image_grid"},
    }
    with atomic_write(folder / "training.json") as part:
        part.write_text(json.dumps(record, indent=2) + "\n")


def _changed_options(config: TrainConfig) -> Iterator[str]:
    """Yields the options that change a result and are not the defaults, but for those in every command."""
    named = ("tool", "pool", "images", "val", "steps", "lr", "seed")
    without_effect = ("out", "threads", "device", "val_every")
    for option in fields(config):
        value = getattr(config, option.name)
        if option.name in (*named, *without_effect) or value == option.default:
            continue
        name = option.name.replace("_", "-")
        yield f"--{name} {value}" if not isinstance(value, bool) else f"--{'' if value else 'no-'}{name}"


def train(config: TrainConfig) -> dict[str, Any]:
    """Trains one tool.

    Returns:
        The metrics of the last validation; see :func:`validate`.

    Raises:
        UnknownToolError: If the pool has no such tool.
        ToolboxError: If the tool has no weights.
        MissingWeightsError: If the tool of the initial weights has not been trained.
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more steps, or with damaged files.
    """
    # Set-up: images, network. Nothing is written before all that was named has been found.
    spec = find_spec(config.pool, config.tool)
    steps, lr = config.steps or spec.steps, spec.lr if config.lr is None else config.lr
    if steps == 0:
        raise ToolboxError(f"{spec.name} has no weights to train: choose another tool.")
    folder = config.out / spec.name
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    torch.manual_seed(config.seed)
    images = [image for path in config.images for image in read_images(list_images(path))]
    val_pairs = [
        validation_pair(image, spec.degrade, config.val_side, seed)
        for seed, image in enumerate(read_images(list_images(config.val)))
    ]
    device = torch.device(resolve_device(config.device))
    net = build_net(spec.net, spec.options)
    state = load_checkpoint(folder / "checkpoint.pt", device)
    if state is None:
        load_initial_weights(net, spec, config)
    inputs = {"images": identify_images(*config.images), "val": identify_images(config.val)}
    excluded = ("out", "threads", "device")
    settings = {name: value for name, value in asdict(config).items() if name not in excluded}
    progress = describe_progress(folder, state["step"] if state else 0, steps, "steps")
    with claim_run_dir(folder, settings | inputs | {"steps": steps, "lr": lr}, mutable=("steps",)):
        if progress is not None:
            print(progress)
        val_metrics = run_steps(config, spec, net.to(device), state, images, val_pairs)
        export_tool(net, spec, config, val_metrics, folder)
    return val_metrics


def run_steps(
    config: TrainConfig,
    spec: ToolSpec,
    net: nn.Module,
    state: Mapping[str, Any] | None,
    images: Sequence[NDArray[np.uint8]],
    val_pairs: Sequence[Pair],
) -> dict[str, Any]:
    """Trains the network of a tool in the folder of its run; returns the metrics of the last validation.

    Args:
        config: The settings.
        spec: The spec of the tool.
        net: The network, with its initial weights, on the device.
        state: The checkpoint to resume from; None starts with the first step.
        images: The photographs for training, uint8 (H, W, 3).
        val_pairs: Degraded and clean images for validation.
    """
    from torch.utils.tensorboard import SummaryWriter  # this import takes seconds

    folder, device = config.out / spec.name, next(net.parameters()).device
    steps, lr = config.steps or spec.steps, spec.lr if config.lr is None else config.lr
    rng, start_step = np.random.default_rng(config.seed), 0
    zero_reference = 1.0 if config.zero_reference is None else config.zero_reference
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99))
    lpips = LpipsAlex().to(device) if spec.lpips_weight else None
    if state is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        rng.bit_generator.state = json.loads(state["rng"])
        start_step = state["step"]

    autocast = config.autocast and supports_bfloat16()
    writer = SummaryWriter(str(folder), purge_step=start_step + 1)
    val_metrics: dict[str, Any] = {}
    for step in track(range(start_step, steps), description=spec.name, disable=not sys.stdout.isatty()):
        learning_rate = lr * warmup_cosine(step, steps, config.warmup_steps)
        set_learning_rate(optimizer, learning_rate)
        pairs = [
            training_pair(images, spec.degrade, spec.patch_size, spec.margin, rng, spec.flip_only)
            for _ in range(spec.batch_size)
        ]
        loss = torch.zeros((), device=device)
        for batch in collate_by_size(pairs):
            degraded, clean = (part.to(device, memory_format=torch.channels_last) for part in batch)
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                restored = net(degraded)
            restored = resize(restored.float(), (clean.shape[-2], clean.shape[-1]))  # as for a full canvas
            term = charbonnier(restored, clean, spec.loss_reduction)
            if spec.zero_reference is not None and zero_reference:
                damaged = (degraded != clean).flatten(1).any(1)
                curves = cast(LocalToneCurve, net).statistics(degraded)[0]
                term = term + zero_reference * zero_reference_loss(
                    spec.zero_reference, degraded, restored, curves, damaged
                )
            if lpips is not None:
                term = term + spec.lpips_weight * lpips(restored.clamp(0, 1), clean).mean()
            loss = loss + len(clean) / len(pairs) * term
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

        if (step + 1) % 100 == 0:
            writer.add_scalar("train/loss", loss.item(), step + 1)
            writer.add_scalar("train/lr", learning_rate, step + 1)
        if (step + 1) % config.val_every == 0 or step + 1 == steps:
            val_metrics = validate(net, val_pairs, device)
            for key in ("psnr_before", "psnr_gain", "worse"):
                writer.add_scalar(f"val/{key}", val_metrics[key], step + 1)
            writer.add_image("val/input_restored_reference", val_metrics["image_grid"], step + 1)
            gain = f"{val_metrics['psnr_gain']:+.2f} dB"
            print(f"{spec.name} {step + 1}/{steps} loss {loss.item():.4f} gain {gain}")
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"rng": json.dumps(rng.bit_generator.state), "step": step + 1}
            save_checkpoint(folder / "checkpoint.pt", state)
    writer.close()
    return val_metrics or validate(net, val_pairs, device)
