"""Training curves from TensorBoard files."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from opera_env.errors import ResultsError
from opera_env.report.curves import MAX_POINTS, read_curves


def write(folder: Path, tag: str, values: list[float]) -> None:
    writer = SummaryWriter(str(folder))
    for step, value in enumerate(values):
        writer.add_scalar(tag, value, step)
    writer.close()


def test_curves_are_read_with_those_of_subfolders_and_validation_first(tmp_path: Path) -> None:
    write(tmp_path / "run", "loss", [3.0, 2.0, 1.0])
    write(tmp_path / "run" / "imitation", "val/reward", [5.0, 6.0])
    first, second = read_curves([tmp_path / "run"])
    assert (first.run, first.tag, first.steps, first.values) == (
        "run/imitation",
        "val/reward",
        (0, 1),
        (5.0, 6.0),
    )
    assert (second.run, second.tag, second.values) == ("run", "loss", (3.0, 2.0, 1.0))


def test_long_curves_are_thinned_out_and_keep_their_ends(tmp_path: Path) -> None:
    write(tmp_path, "loss", [float(step) for step in range(3 * MAX_POINTS)])
    (curve,) = read_curves([tmp_path])
    assert len(curve.steps) == MAX_POINTS
    assert (curve.steps[0], curve.steps[-1]) == (0, 3 * MAX_POINTS - 1)


def test_a_single_value_is_no_curve(tmp_path: Path) -> None:
    write(tmp_path, "loss", [1.0])
    assert read_curves([tmp_path]) == []


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="found no TensorBoard files"):
        read_curves([tmp_path])
