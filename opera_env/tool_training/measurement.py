"""Measuring the model cards of tools."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track

from opera_env.data.images import to_tensor
from opera_env.degradations import DEGRADATION_CLASSES, DegradationType, degrade
from opera_env.errors import ToolboxError
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.model_card import Gain, ToolCard
from opera_env.tool_training.patches import DegradeFn, validation_pair
from opera_env.tool_training.pools import training_spec
from opera_env.tools import Tool, Toolbox
from opera_env.types import Outcome, Plan, Sample, SampleSpec

_CHUNK_SIZE = 16
"""Samples that are scored together."""

_CARD_REWARD = Reward(
    "card",
    (
        RewardTerm("psnr_rgb", 0, 1, 1, clip=False),
        RewardTerm("psnr_y", 0, 1, 1, clip=False),
        RewardTerm("ssim_y", 0, 1, 1, clip=False),
        RewardTerm("lpips", 0, 1, 1, clip=False),
    ),
)


def measure_tools(
    toolbox: Toolbox,
    images: Sequence[NDArray[np.uint8]],
    data: str,
    side: int = 128,
    specs: Mapping[str, ToolSpec] | None = None,
    show_progress: bool = False,
    degradations: Mapping[str, DegradationType] = DEGRADATION_CLASSES,
) -> dict[str, ToolCard]:
    """Measures every tool alone on every degradation, and on clean images.

    Args:
        toolbox: The tools.
        images: Clean images, uint8 (H, W, 3) each; their centre crops are used.
        data: Name of the data set, recorded in the cards.
        side: Side of the crops in pixels.
        specs: The spec of each tool by its name, with whose training data its gain ``own`` is measured; by
            default those that the tools' records of training name. The gain of a tool without one is
            measured on its degradation as the benchmark draws it.
        show_progress: Whether a progress bar is shown.
        degradations: The degradations by name; the built-in ones by default.

    Returns:
        The card of each tool, by its name.

    Raises:
        ToolboxError: If a tool names no known degradation.
        SampleError: If an image is smaller than the crop.
    """
    _require_known_degradations(toolbox, degradations)
    scorer = PlanScorer(toolbox, _CARD_REWARD)

    def gains(degrade: DegradeFn, names: Sequence[str]) -> dict[str, Gain]:
        samples = [_sample(image, degrade, side, seed) for seed, image in enumerate(images)]
        outcomes = _score_plans(scorer, samples, [(), *((name,) for name in names)])
        return {name: _gain(outcomes[()], outcomes[(name,)]) for name in names}

    gains_by_degradation = {
        degradation: gains(_degrade_with(degradation, degradations), toolbox.names)
        for degradation in track(degradations, "degradations", disable=not show_progress)
    }
    if specs is None:
        specs = {tool.name: spec for tool in toolbox if (spec := training_spec(tool)) is not None}
    own = [spec for name, spec in specs.items() if spec.training_data is not None and name in toolbox]
    own_gains = {spec.name: gains(spec.degrade, [spec.name])[spec.name] for spec in own}
    for tool in toolbox:
        degradation = min(tool.degradations & set(degradations))
        own_gains.setdefault(tool.name, gains_by_degradation[degradation][tool.name])
    clean_psnr = _clean_psnr(scorer, [_sample(image, _identity, side, 0) for image in images])
    return {
        tool.name: ToolCard(
            ms=measure_latency_ms(tool, side),
            own=own_gains[tool.name],
            gains={name: by_tool[tool.name] for name, by_tool in gains_by_degradation.items()},
            clean=clean_psnr[tool.name],
            images=len(images),
            data=data,
        )
        for tool in toolbox
    }


def _require_known_degradations(toolbox: Toolbox, degradations: Mapping[str, DegradationType]) -> None:
    for tool in toolbox:
        if not tool.degradations & set(degradations):
            raise ToolboxError(
                f"tool {tool.name!r} is for none of {', '.join(degradations)}: name its degradation with "
                "toolbox.add(..., degradations=[...])."
            )


def measure_latency_ms(tool: Tool, side: int, runs: int = 60) -> float:
    """Measures the latency of a tool for one image, on one CPU thread.

    Args:
        tool: The tool.
        side: Side of the result in pixels; a tool that enlarges gets a smaller image.
        runs: Number of runs.

    Returns:
        The shortest time of all runs in milliseconds, because other load on the machine only adds time.
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
                tool(image, (side, side)).sum().item()  # waits until the device has finished
                times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1e3 * min(times)


def _degrade_with(name: str, degradations: Mapping[str, DegradationType]) -> DegradeFn:
    return lambda image, rng: degrade(image, (name,), rng, degradations=degradations)[0]


def _identity(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    return image


def _sample(image: NDArray[np.uint8], degrade: DegradeFn, side: int, seed: int) -> Sample:
    degraded, clean = validation_pair(image, degrade, side, seed)
    spec = SampleSpec("card", 0, seed=seed)
    return Sample(to_tensor(degraded), to_tensor(clean), None, (side, side), spec)


def _score_plans(
    scorer: PlanScorer, samples: Sequence[Sample], plans: Sequence[Plan]
) -> dict[Plan, list[Outcome]]:
    """Scores every plan on every sample, few samples at a time so that the scorer reuses references."""
    outcomes: dict[Plan, list[Outcome]] = {plan: [] for plan in plans}
    for start in range(0, len(samples), _CHUNK_SIZE):
        chunk = samples[start : start + _CHUNK_SIZE]
        for plan in plans:
            outcomes[plan] += scorer.score(chunk, [plan] * len(chunk), restored=False)
    return outcomes


def _gain(before: Sequence[Outcome], after: Sequence[Outcome]) -> Gain:
    def change(metric: str) -> NDArray[np.float64]:
        return np.array(
            [new.metrics[metric] - old.metrics[metric] for old, new in zip(before, after, strict=True)]
        )

    psnr = change("psnr_rgb")
    others = {metric: float(change(metric).mean()) for metric in ("psnr_y", "ssim_y", "lpips")}
    return Gain(psnr=float(psnr.mean()), **others, worse=int((psnr < 0).sum()))


def _clean_psnr(scorer: PlanScorer, samples: Sequence[Sample]) -> dict[str, float]:
    """Returns, for each tool, the PSNR of its mean squared error on clean images."""
    psnr: dict[str, float] = {}
    for (name,), outcomes in _score_plans(scorer, samples, [(name,) for name in scorer.tool_names]).items():
        errors = [10 ** (-outcome.metrics["psnr_rgb"] / 10) for outcome in outcomes]
        psnr[name] = float(-10 * np.log10(np.mean(errors)))
    return psnr
