"""The model card of a toolbox: what every tool mends, and what it harms."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from opera_env.data.images import to_tensor
from opera_env.degradations import DEGRADATIONS, degrade
from opera_env.errors import ToolboxError
from opera_env.files import atomic_write
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.tool_training.lite_tools import LITE_TOOLS, ToolSpec
from opera_env.tool_training.patches import DegradeFn, validation_pair
from opera_env.tools import Tool, Toolbox
from opera_env.types import Outcome, Plan, Sample, SampleSpec


@dataclass(frozen=True)
class Gain:
    """What a tool does to images of one kind: mean differences to the untouched images.

    Attributes:
        psnr: In dB over RGB.
        psnr_y: In dB on luma.
        ssim_y: On luma.
        lpips: Below 0 is better.
        worse: How many images end with a lower PSNR.
    """

    psnr: float
    psnr_y: float
    ssim_y: float
    lpips: float
    worse: int


@dataclass(frozen=True)
class ToolCard:
    """What was measured of one tool.

    Attributes:
        ms: Time for one image of 128 x 128 pixels, one thread, milliseconds; a
            tool that enlarges gets the smaller image that becomes one of this size.
        own: On the degradation it is for, at the strength it was trained on.
        gains: On each of the eight degradations as the benchmark draws them.
        clean: PSNR in dB, over RGB, of the mean squared error over clean images, the paper's
            measure of misuse; 80 where it leaves them as they are.
        images: How many photographs.
        data: Which ones.
    """

    ms: float
    own: Gain
    gains: Mapping[str, Gain]
    clean: float
    images: int
    data: str

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types; :meth:`from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolCard:
        """Reads what :meth:`to_json` wrote."""
        gains = {name: Gain(**gain) for name, gain in data["gains"].items()}
        return cls(**{**data, "own": Gain(**data["own"]), "gains": gains})


def read_card(tool: Tool) -> ToolCard:
    """Returns what a toolbox's manifest says of a tool.

    Raises:
        ToolboxError: If nobody has measured these weights.
    """
    if not tool.measured:
        raise ToolboxError(
            f"tool {tool.name!r} has not been measured with these weights: "
            "run `opera-env tools measure FOLDER --images DIR`."
        )
    return ToolCard.from_json({key: value for key, value in tool.measured.items() if key != "file"})


def _psnr(images: Tensor, references: Tensor) -> Tensor:
    error = (images - references).square().mean((1, 2, 3))
    return -10 * torch.log10(error + 1e-8)


_CHUNK = 16
"""Samples scored at once: one batch of the scorer."""

_JUDGED = Reward(
    "card",
    (
        RewardTerm(FunctionMetric("psnr", _psnr, worst=0.0, needs_reference=True), 0, 1, 1, clip=False),
        RewardTerm("psnr_y", 0, 1, 1, clip=False),
        RewardTerm("ssim_y", 0, 1, 1, clip=False),
        RewardTerm("lpips", 0, 1, 1, clip=False),
    ),
)


def measure_tools(
    toolbox: Toolbox,
    photographs: Sequence[NDArray[np.uint8]],
    data: str,
    side: int = 128,
    specs: Sequence[ToolSpec] = LITE_TOOLS,
    show_progress: bool = False,
) -> dict[str, ToolCard]:
    """Measures every tool alone on every degradation, and on clean images.

    Args:
        toolbox: The tools.
        photographs: Clean ones, uint8 (H, W, 3); their centre crops are used.
        data: Name of the photographs.
        side: Of the crops.
        specs: Who was trained on one strength alone; any other tool's own degradation is the
            one that it is for, as the benchmark draws it.
        show_progress: Draw a progress bar.

    Returns:
        A card for each tool, by its name.

    Raises:
        ToolboxError: If a tool is for nothing that images can be degraded with.
    """
    for tool in toolbox:
        if not tool.degradations & set(DEGRADATIONS):
            raise ToolboxError(
                f"tool {tool.name!r} is for none of {', '.join(DEGRADATIONS)}: say for which, "
                "toolbox.add(..., degradations=[...])."
            )
    scorer = PlanScorer(toolbox, _JUDGED)

    def gains(degrade: DegradeFn, names: Sequence[str]) -> dict[str, Gain]:
        samples = [_sample(photograph, degrade, side, seed) for seed, photograph in enumerate(photographs)]
        found = _outcomes(scorer, samples, [(), *((name,) for name in names)])
        return {name: _gain(found[()], found[(name,)]) for name in names}

    kinds = track(DEGRADATIONS, "degradations", disable=not show_progress)
    on = {kind: gains(_operator(kind), toolbox.names) for kind in kinds}
    strengths = [spec for spec in specs if spec.fixed_operator is not None and spec.name in toolbox]
    own = {spec.name: gains(spec.degrade, [spec.name])[spec.name] for spec in strengths}
    clean = _clean_psnr(scorer, [_sample(photograph, _nothing, side, 0) for photograph in photographs])
    return {
        tool.name: ToolCard(
            ms=measure_latency_ms(tool, side),
            own=own.get(tool.name) or on[min(tool.degradations & set(DEGRADATIONS))][tool.name],
            gains={kind: on[kind][tool.name] for kind in DEGRADATIONS},
            clean=clean[tool.name],
            images=len(photographs),
            data=data,
        )
        for tool in toolbox
    }


def measure_latency_ms(tool: Tool, side: int, runs: int = 60) -> float:
    """Times a tool on one image that fills, or is enlarged to, a canvas of ``side``; one thread.

    The least of all runs: whatever else a machine does can only make a run longer.
    """
    device = next(iter(tool.module.parameters()), torch.zeros(1)).device if tool.module else "cpu"
    image = torch.rand(1, 3, side // tool.scale, side // tool.scale, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    threads, times = torch.get_num_threads(), list[float]()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(runs):
                start = time.perf_counter()
                tool(image, (side, side)).sum().item()  # waits for the device
                times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1e3 * min(times)


def _operator(kind: str) -> DegradeFn:
    return lambda image, rng: degrade(image, (kind,), rng)[0]


def _nothing(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    return image


def _sample(photograph: NDArray[np.uint8], degrade: DegradeFn, side: int, seed: int) -> Sample:
    dirty, clean = validation_pair(photograph, degrade, side, seed)
    spec = SampleSpec("card", 0, seed=seed)
    return Sample(to_tensor(dirty), to_tensor(clean), None, (side, side), spec)


def _outcomes(
    scorer: PlanScorer, samples: Sequence[Sample], plans: Sequence[Plan]
) -> dict[Plan, list[Outcome]]:
    """Scores every plan on every sample; few samples at a time, whose references the scorer still keeps."""
    found: dict[Plan, list[Outcome]] = {plan: [] for plan in plans}
    for first in range(0, len(samples), _CHUNK):
        chunk = samples[first : first + _CHUNK]
        for plan in plans:
            found[plan] += scorer.score(chunk, [plan] * len(chunk), restored=False)
    return found


def _gain(before: Sequence[Outcome], after: Sequence[Outcome]) -> Gain:
    def change(metric: str) -> NDArray[np.float64]:
        return np.array([b.metrics[metric] - a.metrics[metric] for a, b in zip(before, after, strict=True)])

    means = {metric: float(change(metric).mean()) for metric in ("psnr", "psnr_y", "ssim_y", "lpips")}
    return Gain(**means, worse=int((change("psnr") < 0).sum()))


def _clean_psnr(scorer: PlanScorer, samples: Sequence[Sample]) -> dict[str, float]:
    """PSNR of the mean squared error that each tool does to clean images."""
    psnr: dict[str, float] = {}
    for (name,), outcomes in _outcomes(scorer, samples, [(name,) for name in scorer.tool_names]).items():
        errors = [10 ** (-outcome.metrics["psnr"] / 10) for outcome in outcomes]
        psnr[name] = float(-10 * np.log10(np.mean(errors)))
    return psnr


def plot_gains(cards: Mapping[str, ToolCard], file: Path) -> None:
    """Draws what every tool does to every degradation, in dB, as a picture."""
    from matplotlib.figure import Figure  # seconds to import

    gains = np.array([[card.gains[kind].psnr for card in cards.values()] for kind in DEGRADATIONS])
    figure = Figure(figsize=(0.62 * len(cards) + 2.2, 5.6), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(gains, cmap="RdBu", vmin=-8, vmax=8, aspect="auto")
    axes.set_xticks(range(len(cards)), list(cards), rotation=50, ha="right")
    axes.set_yticks(range(len(DEGRADATIONS)), [kind.replace("_", " ") for kind in DEGRADATIONS])
    for (row, column), gain in np.ndenumerate(gains):
        colour = "white" if abs(gain) > 5 else "black"
        axes.text(column, row, f"{gain:+.1f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(picture, label="change in PSNR, dB", extend="both", pad=0.01)
    with atomic_write(file) as part:
        figure.savefig(part, format=file.suffix.lstrip(".") or "png", dpi=130)
