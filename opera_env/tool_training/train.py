"""Trains single tools, each on the one degradation it is for.

Example:
    opera-env tools train unet.denoise --images DIR --val DIR --out runs/lite

Interrupt it at any time: the same command goes on from the last checkpoint. Curves and
sample pictures are for tensorboard, under the same folder.

Source: Charbonnier loss, AdamW, warm-up and cosine to zero are common practice for small
restoration networks; the paper takes its tools ready-made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.data.images import list_images, quantise, read_images, resize
from opera_env.devices import supports_bfloat16
from opera_env.errors import MissingWeightsError, ToolboxError
from opera_env.files import atomic_write
from opera_env.schedules import warmup_cosine
from opera_env.tool_training.lite_tools import ToolSpec, lite_tool_spec
from opera_env.tool_training.patches import Pair, collate_pairs, training_pair, validation_pair
from opera_env.tools.nets import build_net
from opera_env.weights.checkpoints import load_as_float32, load_checkpoint, save_checkpoint, save_half


@dataclass(frozen=True)
class TrainConfig:
    """How one tool of the lite toolbox is trained."""

    tool: tyro.conf.Positional[str]
    """Name of the tool, as in opera_env/tool_training/lite_tools.py."""
    images: Path
    """Folder of clean photographs to train on, each at least 128 pixels a side."""
    val: Path
    """Folder of clean photographs to validate on."""
    out: Path = Path("runs/lite")
    """Everything is written to OUT/TOOL."""
    steps: int | None = None
    """Training steps; the tool's own number by default."""
    lr: float | None = None
    """Peak learning rate; the tool's own by default."""
    warmup: int = 200
    """Steps of linear warm-up before the cosine."""
    val_every: int = 2000
    """Validate and checkpoint every this many steps."""
    val_side: int = 128
    """Side of the validation crops."""
    seed: int = 0
    threads: int = 1
    """CPU threads: one each and several tools side by side is the fastest use of a CPU."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    autocast: Annotated[bool, tyro.conf.FlagConversionOff] = supports_bfloat16()
    """Compute in bfloat16 while training, where that is fast; the weights and validation stay float32."""


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Returns PSNR in dB over RGB of 8-bit (B, 3, H, W) pairs, shape (B,)."""
    error = (image.double() - reference.double()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255**2 / error.clamp_min(1e-2))


@torch.inference_mode()
def validate(net: nn.Module, pairs: Sequence[Pair], device: str) -> dict[str, Any]:
    """Measures the gain in PSNR over the untouched (or bicubically enlarged) image, image by image."""
    net.eval()
    gains: list[float] = []
    before: list[float] = []
    shown: list[Tensor] = []
    for pair in pairs:
        dirty, clean = collate_pairs([pair])
        size = (clean.shape[-2], clean.shape[-1])
        restored = quantise(net(dirty.to(device)).cpu())
        untouched, target = quantise(resize(dirty, size)), quantise(clean)
        before.append(psnr(untouched, target).item())
        gains.append(psnr(restored, target).item() - before[-1])
        if len(shown) < 4:
            shown.append(torch.cat([untouched[0], restored[0], target[0]], dim=-1))
    net.train()
    return {
        "psnr_before": float(np.mean(before)),
        "psnr_gain": float(np.mean(gains)),
        "worse": int(np.sum(np.array(gains) < 0)),
        "images": len(gains),
        "picture": torch.cat(shown, dim=-2),
    }


def load_trained_weights(out: Path, name: str) -> dict[str, Tensor]:
    """Reads the weights of a tool that was trained before.

    Raises:
        MissingWeightsError: If it was not.
    """
    path = out / name / "tool.safetensors"
    if not path.is_file():
        remedy = f"opera-env tools train {name} --images DIR --val DIR --out {out}"
        raise MissingWeightsError(f"tool {name!r} is not trained", path, remedy)
    return load_as_float32(path)


def export_tool(net: nn.Module, spec: ToolSpec, config: TrainConfig, result: dict[str, Any], folder: Path):
    """Writes the weights as fp16 safetensors and how they came about as JSON."""
    save_half(net.state_dict(), folder / "tool.safetensors")
    data, validation = (
        f"{path.resolve().parent.name}/{path.resolve().name}" for path in (config.images, config.val)
    )
    steps, lr = config.steps or spec.steps, config.lr or spec.lr
    record = {
        "command": f"opera-env tools train {spec.name} --images {data} --val {validation} "
        f"--steps {steps} --lr {lr:g} --seed {config.seed}",
        "data": data,
        "validation": validation,
        "steps": steps,
        **({} if spec.init_from is None else {"start": spec.init_from}),
        **{key: value for key, value in result.items() if key != "picture"},
    }
    with atomic_write(folder / "training.json") as part:
        part.write_text(json.dumps(record, indent=2) + "\n")


def train(config: TrainConfig) -> dict[str, Any]:
    """Trains one tool; returns its last validation.

    Raises:
        UnknownToolError: If ``lite`` has no such tool.
        ToolboxError: If the tool has no weights, or was trained for more steps already.
        MissingWeightsError: If the tool that it starts from is not trained.
    """
    from torch.utils.tensorboard import SummaryWriter  # seconds to import, and so is the next

    from opera_env.metrics.lpips_alex import LpipsAlex

    spec = lite_tool_spec(config.tool)
    steps, lr = config.steps or spec.steps, config.lr or spec.lr
    if steps == 0:
        raise ToolboxError(f"{spec.name} has no weights to train.")
    folder = config.out / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(config), default=str, indent=2) + "\n")

    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)

    images: list[NDArray[np.uint8]] = read_images(list_images(config.images))
    held_out = [
        validation_pair(image, spec.degrade, config.val_side, seed)
        for seed, image in enumerate(read_images(list_images(config.val)))
    ]

    device = torch.device(config.device)
    net = build_net(spec.net, spec.options)
    checkpoint = folder / "checkpoint.pt"
    state = load_checkpoint(checkpoint, config.device)
    if spec.init_from is not None and state is None:
        net.load_state_dict(load_trained_weights(config.out, spec.init_from))
    net = net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, steps, config.warmup)
    )
    lpips = LpipsAlex().to(device) if spec.lpips_weight else None
    first = 0
    if state is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        rng.bit_generator.state = json.loads(state["rng"])
        first = state["step"]
        if first > steps:
            raise ToolboxError(
                f"{spec.name} was trained for {first} steps in {folder}, which cannot become {steps}: "
                "ask for more steps, or choose another --out."
            )
        print(f"resuming from step {first} of {steps}")

    writer = SummaryWriter(str(folder))
    result: dict[str, Any] = {}
    for step in track(range(first, steps), description=spec.name, disable=not sys.stdout.isatty()):
        batch = [
            training_pair(images, spec.degrade, spec.patch_size, spec.margin, rng, spec.flip_only)
            for _ in range(spec.batch_size)
        ]
        dirty, clean = (part.to(device, memory_format=torch.channels_last) for part in collate_pairs(batch))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast):
            restored = net(dirty)
        loss = (F.mse_loss(restored.float(), clean, reduction="none") + 1e-6).sqrt().mean()
        if lpips is not None:
            loss = loss + spec.lpips_weight * lpips(restored.float().clamp(0, 1), clean).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()

        if (step + 1) % 100 == 0:
            writer.add_scalar("train/loss", loss.item(), step + 1)
            writer.add_scalar("train/lr", scheduler.get_last_lr()[0], step + 1)
        if (step + 1) % config.val_every == 0 or step + 1 == steps:
            result = validate(net, held_out, config.device)
            for key in ("psnr_before", "psnr_gain", "worse"):
                writer.add_scalar(f"val/{key}", result[key], step + 1)
            writer.add_image("val/input_restored_reference", result["picture"], step + 1)
            gain = f"{result['psnr_gain']:+.2f} dB"
            print(f"{spec.name} {step + 1}/{steps} loss {loss.item():.4f} gain {gain}")
            state = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "rng": json.dumps(rng.bit_generator.state),
                "step": step + 1,
            }
            save_checkpoint(checkpoint, state)
    result = result or validate(net, held_out, config.device)
    export_tool(net, spec, config, result, folder)
    writer.close()
    return result
