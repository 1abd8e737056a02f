"""Metrics of a restored photograph where its clean original is at hand."""

from __future__ import annotations

from torch import Tensor

from opera_env import weights
from opera_env.data.images import quantise
from opera_env.data.photo import Photo
from opera_env.demo.workshop import Restored
from opera_env.errors import SettingError
from opera_env.metrics import MetricSuite


def compare_with_reference(restored: Restored, reference: Photo) -> str:
    """Returns a table of metrics before and after, in Markdown.

    Raises:
        SettingError: If the reference has another size.
    """
    image = reference.tensor()
    if image.shape != restored.images[0].shape:
        height, width = restored.images[0].shape[-2:]
        found = f"{image.shape[-1]} x {image.shape[-2]}"
        raise SettingError("reference", found, f"the size of the photograph, {width} x {height} pixels")
    names = ["psnr_y", "ssim_y", *(["lpips"] if weights.status("lpips") == "present" else [])]
    before, after = (measure(names, step, image) for step in (restored.images[0], restored.images[-1]))
    rows = [f"| {name} | {before[name]:.3f} | {after[name]:.3f} |" for name in names]
    return "\n\n| against the reference | before | after |\n|---|---|---|\n" + "\n".join(rows)


def measure(names: list[str], image: Tensor, reference: Tensor) -> dict[str, float]:
    """Returns metrics of an image against its reference, both float32 (3, H, W) in [0, 1]."""
    suite = MetricSuite(names)
    (values,) = suite(quantise(image)[None], suite.features(quantise(reference)[None]))
    return values
