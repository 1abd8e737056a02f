"""The options of ``opera-env bench``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opera_env.bench.config import STUDY_TOOLS, BenchmarkName
from opera_env.cli.command import Command
from opera_env.settings import Seed, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class BenchCommand(Command):
    """Measures plans per second, the vector environment, memory and scaling, as ratios within one run.

    opera-env bench
        takes about 15 minutes on two cores. The processes of Gymnasium's vector environment need 20 GB
        of memory and are left out where there is less.

    opera-env bench --only exhaustive scaling --json bench.json
        runs two of the benchmarks and writes the results.

    opera-env bench --only paper
        measures the paper's networks with random weights, whatever --toolbox says.

    opera-env bench --only group vector --tools all
        uses all tools of the toolbox.
    """

    only: tuple[BenchmarkName, ...] = ()
    """Benchmarks to run; all by default."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    tools: tuple[str, ...] = STUDY_TOOLS
    """Names of its tools to use; "all" for all of them."""
    device: str = "auto"
    """cpu, cuda or auto."""
    seed: Seed = 0
    """Seed of samples and random plans."""
    quick: bool = False
    """Use small inputs: this shows that the benchmarks run; the numbers mean nothing."""
    json: Path | None = None
    """File for the results. Results of other benchmarks that it holds already are kept. Its key "runs" says
    on which device and with which tools each benchmark was run."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)

    def run(self) -> int:
        """Runs the benchmarks, prints and writes; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.bench import run

        return run(self)
