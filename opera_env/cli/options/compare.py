"""The options of ``opera-env compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from opera_env.cli.command import Command
from opera_env.errors import SampleError, SettingError
from opera_env.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Range, Seed, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Compare(Command):
    """Compares agents on photographs; prints tables and writes a sheet of pictures.

    Clean photographs are cropped and degraded by the recipes of the benchmark's groups A, B and C in
    turn. Each agent restores all of them, and the results are scored with the clean crop as reference.
    Without --images the photographs are those that come with scikit-image.

    opera-env compare
        compares the default agents in about a minute.

    opera-env compare --agents all --regret
        adds beam and exhaustive search, and measures how far each agent stays below the best known plan.

    opera-env compare --images photos --n 48 --agents random,greedy,greedy-blind --json out.json
        takes a folder of clean photographs; "-blind" hides reference and labels from a search.

    opera-env compare --agents detect,planner,ppo:runs/ppo,my_module:MyAgent --sheet mine.jpg
        compares agents of your own with two others, and prints the paired differences.

    opera-env compare --agents planner,literature --budget 16
        compares the agents of the literature with the planner; each may run 16 tools for an image.

    opera-env compare --images my_module:my_source --agents untouched,matched,greedy
        takes a source of your own, with your own degradations.

    opera-env compare --pairs LQ HQ --agents untouched,random,beam
        takes images that are degraded already, and their references.
    """

    agents: str | None = None
    """Names separated by commas: installed agents, name:FOLDER for trained ones, single:TOOL for one tool
    on every image, module:attribute for your own; "all" stands for the default agents with beam and
    exhaustive search, "literature" for the agents of the literature. Of these groups, agents that do not
    suit the samples or the toolbox are left out."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    images: str | None = None
    """Folder of clean photographs; real:FOLDER, the same with damage as cameras make it; or
    module:attribute, a source of your own with its own degradations and recipes."""
    pairs: tuple[Path, Path] | None = None
    """Two folders with equally named files, degraded and clean."""
    benchmark: Path | None = None
    """Folder in the layout of the AgenticIR benchmark (HQ/, LQ/d2/, LQ/d3/)."""
    n: PositiveInt = 12
    """Number of samples; with fewer than 24 not every recipe of the groups occurs."""
    seed: Seed = 0
    """Seed of crops, degradations, random agents and the bootstrap."""
    reward: str = "lite"
    """Reward preset: lite, classic (needs no download), paper, release; or module:attribute, a reward of
    your own."""
    max_tools: Annotated[int, Range(1, 100)] = 6
    """Maximum number of tools in a plan."""
    tool_cost: NonNegativeFloat = 0.0
    """Cost of each tool of a plan, in points of R_q."""
    num_plans: Annotated[int, Range(1, 10_000)] = 1
    """Number of plans that the planner samples for each image. It keeps the best by the reward;
    planner-blind keeps the best by the critic."""
    budget: PositiveInt | None = None
    """Maximum number of tools that an agent may run for one image before it decides, counted alike for all
    agents; by default there is no limit."""
    canvas: PositiveInt | None = None
    """Side of square crops in pixels, a multiple of 4. By default 128 for clean photographs, and whole
    images with --pairs and --benchmark. A source of your own has its own."""
    regret: bool = False
    """Search the best plan of each sample, and report how far each agent stays below it. Takes minutes."""
    device: str = "auto"
    """cpu, cuda or auto."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the tools, for speed on a GPU; a tool whose results would change visibly stays in
    float32, and is named. Results differ from those in float32."""
    max_gpu_memory: PositiveFloat | None = None
    """Memory of the GPU in GB that the weights of tools may take; images and activations come on top. The
    least recently used tools leave it for the memory of the computer, and then for a temporary file. By
    default all tools stay on the GPU."""
    json: Path | None = None
    """File for the results; the records of all samples are written to a .jsonl file beside it. Until both
    are complete, a .partial file keeps the agents that are finished."""
    resume: bool = False
    """Continue an interrupted run from its .partial file."""
    sheet: Path | None = None
    """File for the picture sheet: JPEG, or PNG by the name. By default results/compare-1.jpg, or the next
    number that is free."""
    no_sheet: bool = False
    """Write no picture sheet."""
    force: bool = False
    """Replace existing files of results."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.agents is not None and not self.agents.strip(" ,"):
            raise SettingError("agents", repr(self.agents), "at least one name")
        if self.json is not None and self.json.suffix == ".jsonl":
            raise SettingError("json", self.json, "another name; the records are written to that file")
        if self.resume and self.json is None:
            raise SettingError("resume", "", "--json with the file of the interrupted run")
        if self.sheet is not None and self.sheet.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            raise SettingError("sheet", self.sheet, "a name that ends in .jpg, .jpeg or .png")
        given = [option for option in (self.images, self.pairs, self.benchmark) if option is not None]
        if len(given) > 1:
            raise SampleError("give one of --images, --pairs and --benchmark, not several.")

    def run(self) -> int:
        """Compares, writes and prints; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.compare import run

        return run(self)
