"""Training curves from the TensorBoard files of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_env.errors import ResultsError

SHOWN_PREFIXES = ("val/", "eval/", "train/", "tools/", "reward")
"""Curves are shown in the order of these prefixes; others follow."""

MAX_POINTS = 500
"""Largest number of points of a curve; longer ones are thinned out evenly."""


@dataclass(frozen=True)
class Curve:
    """One scalar of a training run.

    Attributes:
        run: Name of the folder of the run.
        tag: Name of the scalar.
        steps: Steps.
        values: Values, as many as steps.
    """

    run: str
    tag: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_curves(folders: Sequence[Path]) -> list[Curve]:
    """Reads all scalars with at least two points.

    Args:
        folders: Folders of runs; those below them count too.

    Raises:
        ResultsError: If a folder has no TensorBoard files.
    """
    curves: list[Curve] = []
    for folder in folders:
        files = sorted({path.parent for path in folder.rglob("events.out.tfevents.*")})
        if not files:
            raise ResultsError(
                f"{folder}: expected the folder of a training run, found no TensorBoard files in it."
            )
        for sub in files:
            name = folder.name if sub == folder else f"{folder.name}/{sub.relative_to(folder)}"
            curves += _read_folder(sub, name)
    return sorted(curves, key=lambda curve: (_rank(curve.tag), curve.tag, curve.run))


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Reads all scalars of the TensorBoard files in a folder.

    Returns:
        Values by tag and step, in the order of the steps; of several values of a step, the last one.
    """
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})  # 0 keeps all points
    events.Reload()
    tags: list[str] = events.Tags()["scalars"]
    values = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}
    return {tag: dict(sorted(points.items())) for tag, points in values.items()}


def _read_folder(folder: Path, name: str) -> list[Curve]:
    curves: list[Curve] = []
    for tag, points in read_scalars(folder).items():
        steps = list(points)
        kept = np.linspace(0, len(steps) - 1, min(len(steps), MAX_POINTS)).round().astype(int)
        shown = tuple(steps[index] for index in kept)
        if len(shown) > 1:
            curves.append(Curve(name, tag, shown, tuple(points[step] for step in shown)))
    return curves


def _rank(tag: str) -> int:
    return next(
        (rank for rank, prefix in enumerate(SHOWN_PREFIXES) if tag.startswith(prefix)), len(SHOWN_PREFIXES)
    )
