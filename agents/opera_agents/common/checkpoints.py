"""Checkpoints of runs, and the budget that a run has used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opera_env.errors import RunError
from opera_env.weights.checkpoints import load_checkpoint, save_checkpoint

__all__ = ["Budget", "load_checkpoint", "not_a_checkpoint", "save_checkpoint"]


@dataclass(frozen=True)
class Budget:
    """The cost of a run so far, without its validations.

    Attributes:
        images_scored: Results that were scored.
        tools_run: Applications of a tool.
        seconds: Wall-clock time.
    """

    images_scored: int = 0
    tools_run: int = 0
    seconds: float = 0.0

    def plus(self, images_scored: int = 0, tools_run: int = 0, seconds: float = 0.0) -> Budget:
        """Returns the sum of this budget and further costs.

        Example:
            >>> Budget(2, 3, 1.0).plus(tools_run=4)
            Budget(images_scored=2, tools_run=7, seconds=1.0)
        """
        return Budget(
            self.images_scored + images_scored, self.tools_run + tools_run, self.seconds + seconds
        )


def not_a_checkpoint(path: Path, reason: str) -> RunError:
    """Returns the error for a file that can be read, but is not a checkpoint of the run.

    Args:
        path: The file.
        reason: What was found.
    """
    return RunError(
        f"{path}: not a checkpoint of this run ({reason}): delete it to train again from the beginning, or "
        "choose another --out."
    )
