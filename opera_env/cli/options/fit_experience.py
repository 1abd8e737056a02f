"""The options of ``opera-env fit-experience``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opera_env.cli.command import Command
from opera_env.settings import PositiveInt, Seed, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class FitExperience(Command):
    """Fits the experience by which the agent agenticir orders its steps.

    For each two degradations, all their tools run in both orders on samples that have the two and no
    others. The experience is what one order gains over the other on average.

    opera-env fit-experience --images bsds500/train --out experience.json
        fits it for the tools of lite; opera-env compare --agents agenticir-blind:experience.json uses it.
    """

    images: Path | None = None
    """Folder of clean photographs for training; by default those that come with scikit-image."""
    out: Path = Path("experience.json")
    """File for the experience. Until it is complete, a .partial file keeps the pairs that are fitted."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    reward: str = "lite"
    """Reward that decides: a preset, or module:attribute, a reward of your own."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list."""
    n: PositiveInt = 4
    """Number of samples of each pair."""
    canvas: PositiveInt = 128
    """Side of the crops in pixels, a multiple of 4."""
    seed: Seed = 0
    """Seed of crops and degradations."""
    resume: bool = False
    """Continue an interrupted run from its .partial file."""
    force: bool = False
    """Replace an existing file."""
    device: str = "auto"
    """cpu, cuda or auto."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)

    def run(self) -> int:
        """Fits, writes and prints; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.fit_experience import run

        return run(self)
