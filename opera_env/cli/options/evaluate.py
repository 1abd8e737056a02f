"""The options of ``opera-env evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Range, Seed, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Evaluate(Command):
    """Evaluates agents with toolboxes on a benchmark, with published results beside.

    Every sample leaves a line of JSON in the file of --out, from which anybody can verify the result. For a
    quick look at agents, use opera-env compare.

    opera-env evaluate --agents untouched,matched,planner --out results.jsonl
        evaluates three agents on OPERA-Lite-v1, 128 samples of the bundled photographs.

    opera-env evaluate --benchmark OPERA-BSDS-v1 --hq bsds500/val --toolboxes lite,lite-cotrained
        takes 320 samples of BSDS500's validation photographs, and the default agents with two toolboxes.

    opera-env evaluate --benchmark groups-abc --lq AgenticIR --protocol agenticir --latex table.tex
        takes the published images of AgenticIR: a folder with HQ and LQ.

    opera-env evaluate --benchmark misuse --hq photos --toolboxes lite,lite-cotrained
        runs every tool on clean photographs, which it should leave as they are.

    opera-env evaluate --agents greedy,planner --reward no_reference --judge lite
        shows how much of what a search gains by one reward another reward sees.

    opera-env evaluate --benchmark OPERA-BSDS-v1 --hq bsds500/val --out results.jsonl --ray auto
        shares the work with all machines of a Ray cluster.

    opera-env evaluate --reverify results.jsonl
        runs the plans of a file again, and names each figure that has moved.
    """

    benchmark: str = "OPERA-Lite-v1"
    """OPERA-Lite-v1, OPERA-BSDS-v1, OPERA-Real-v1, groups-abc, single, misuse, rtts, lhp or folder."""
    hq: Path | None = None
    """Folder of clean photographs; groups-abc, single and misuse take the bundled ones without it."""
    lq: Path | None = None
    """Folder of degraded photographs, for rtts, lhp and folder; for groups-abc, the published folder with
    HQ and LQ."""
    depth: Path | None = None
    """Folder of depth maps, for haze in groups-abc and single; without it depth is procedural."""
    n: PositiveInt | None = None
    """Number of samples of each combination; by default 20 (100 for misuse), and all images of --lq."""
    canvas: PositiveInt | None = None
    """Side of square crops in pixels; by default whole images, and 128 for bundled photographs."""
    seed: Seed = 0
    """Seed of random agents, the bootstrap, and of crops and degradations that no version has fixed."""
    agents: str | None = None
    """Names separated by commas, as opera-env compare takes them; single:TOOL for one tool, each_tool for
    every tool alone."""
    toolboxes: str = "lite"
    """Names of shipped toolboxes or folders written by Toolbox.save, separated by commas."""
    reward: str | None = None
    """Reward that agents and searches see: a preset, or module:attribute, a reward of your own. By default
    lite, and no_reference where images have no references."""
    judge: str | None = None
    """Reward that judges the results; by default the same."""
    max_tools: Annotated[int, Range(1, 100)] = 6
    """Maximum number of tools in a plan."""
    tool_cost: NonNegativeFloat = 0.0
    """Cost of each tool in searches, in points of R_q."""
    num_plans: Annotated[int, Range(1, 10_000)] = 1
    """Number of plans that the planner samples for each image; see opera-env compare."""
    budget: tuple[PositiveInt, ...] = ()
    """Maximum number of tools that an agent may run for one image before it decides, counted alike for all
    agents; several numbers evaluate each agent with each of them. By default there is no limit."""
    protocol: Literal["opera", "agenticir"] = "opera"
    """Columns of the tables: PSNR and SSIM on Y (opera), or PSNR on RGB and SSIM on the Y of YIQ
    (agenticir)."""
    best: Path | None = None
    """Best known plans of the benchmark, by which scores are normalised; scripts/best_known_plans.py
    makes them."""
    out: Path | None = None
    """File for the results, JSON lines. Until it is complete, a .partial file keeps what is finished."""
    resume: bool = False
    """Continue an interrupted run from its .partial file."""
    force: bool = False
    """Replace existing files."""
    plans: Path | None = None
    """Judge the plans of this file instead of agents: JSON lines with spec, plan and agent."""
    answers: Path | None = None
    """Judge the answers in words of this file instead of agents, without the model: JSON lines with spec,
    answer and agent."""
    read: tuple[Path, ...] = ()
    """Make tables of these files of results; nothing is run."""
    reverify: tuple[Path, ...] = ()
    """Run the plans of these files of results again, and name each figure that has moved."""
    tolerance: NonNegativeFloat | None = None
    """How far a figure may move; by default what rounding errors of another machine do to each metric."""
    markdown: Path | None = None
    """File for the tables as Markdown; - for standard output, as for the other formats."""
    latex: Path | None = None
    """File for the tables as LaTeX (booktabs)."""
    csv: Path | None = None
    """File for all numbers as CSV, one a line."""
    json: Path | None = None
    """File for the summary as JSON."""
    ray: str | None = None
    """Run on a Ray cluster: its address, auto for the one of this machine, or local for processes on this
    machine. Every machine needs the same folders. --out keeps the results as they come."""
    ray_workers: PositiveInt | None = None
    """Number of worker processes; by default one for each free core, or for each share of a GPU."""
    ray_gpus: NonNegativeFloat = 0.0
    """Number of GPUs of a worker; 0.25 lets four share one."""
    device: str = "auto"
    """cpu, cuda or auto."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the tools, for speed on a GPU; a tool whose results would change visibly stays in
    float32, and is named. Results differ from those in float32."""
    max_gpu_memory: PositiveFloat | None = None
    """Memory of the GPU in GB that the weights of tools may take; images and activations come on top. The
    least recently used tools leave it for the memory of the computer, and then for a temporary file. By
    default all tools stay on the GPU."""
    trust_code: bool = False
    """Run what toolbox folders name: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("agents", "toolboxes"):
            if getattr(self, name) is not None and not getattr(self, name).strip(" ,"):
                raise SettingError(name, repr(getattr(self, name)), "at least one name")
        if self.resume and self.out is None:
            raise SettingError("resume", "", "--out with the file of the interrupted run")
        if self.ray is not None and (self.out is None or self.plans or self.answers):
            raise SettingError("ray", self.ray, "--out, and agents instead of --plans and --answers")
        modes = [name for name in ("plans", "answers", "read", "reverify") if getattr(self, name)]
        if len(modes) > 1:
            raise SettingError(modes[0], "", f"no --{modes[1]} beside it")
        if modes and modes[0] not in ("plans", "answers") and self.out is not None:
            raise SettingError("out", self.out, f"no file for results with --{modes[0]}")
        if modes and self.agents is not None:
            raise SettingError("agents", self.agents, f"no agents with --{modes[0]}")

    def run(self) -> int:
        """Evaluates, writes and prints; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.evaluate import run

        return run(self)
