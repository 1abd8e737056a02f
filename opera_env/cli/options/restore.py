"""The options of ``opera-env restore``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.restoration.config import DEFAULT_TOOLBOX, RestorerConfig
from opera_env.settings import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    check_settings,
)
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Restore(Command):
    """Restores photographs.

    An agent looks at each photograph and plans which tools to apply; the tools then run on all of it.
    For each photograph the command prints which degradations the agent sees, the plan, and why it was
    chosen or why the photograph is left unchanged. Format, EXIF, colour profile, transparency and bit
    depth are kept. No existing file is overwritten without --force, and an input never is.

    opera-env restore holiday.jpg -o restored
        writes restored/holiday.jpg.

    opera-env restore photos "scans/**/*.tif" -o restored --compare
        restores a folder and all scans below another, with pictures of before and after.

    opera-env restore night.png -o day.png --fix low_light,noise
        chooses the plan for degradations that you name, by the scores of a critic.

    opera-env restore night.png -o day.png --plan brighten.gamma_correction,unet.denoise
        applies a plan of your own; `opera-env tools list` names the tools.

    opera-env restore street.jpg -o street.png --variants 4 --explain
        writes four results beside each other to choose from, and prints what was seen and tried.

    opera-env restore small.jpg -o large.png --scale 4 --agent my_module:MyAgent
        enlarges, with a plan by an agent of your own.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, or patterns in quotes."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="PATH")]
    """Folder for the results, or a file name for a single one."""
    agent: str | None = None
    """Agent that plans: a name, name:FOLDER for a trained one, single:TOOL for one tool on all photographs,
    or module:attribute; by default planner:lite-cotrained. Searches use a score that needs no reference."""
    fix: str | None = None
    """Degradations separated by commas, instead of an agent. Tools for these are tried in a fixed order,
    and a critic chooses among the results. The names are those of `opera-env tools list`, column "for"."""
    plan: str | None = None
    """Tools separated by commas, instead of an agent; "" only converts or enlarges."""
    scale: PositiveInt = 1
    """How many times larger the result is than the photograph."""
    toolbox: str = DEFAULT_TOOLBOX
    """A shipped toolbox, or a folder written by Toolbox.save."""
    format: Literal["keep", "png", "jpeg", "tiff", "webp", "bmp"] = "keep"
    """Format of the results; the ending of a file name after -o chooses it too."""
    quality: Annotated[int, Range(1, 100)] = 95
    """Quality of JPEG and WebP files, 1 to 100."""
    compare: bool = False
    """Write NAME.compare.jpg beside each result: before, after, and the plan."""
    json: bool = False
    """Print one JSON document on standard output: for each photograph the degradations with their
    probabilities, the plan, the reason, scores and seconds. All other output goes to standard error."""
    force: bool = False
    """Replace existing results."""
    skip_existing: bool = False
    """Leave out photographs whose result exists: this resumes an interrupted run. Several processes with
    the same command share the photographs."""
    max_tools: Annotated[int, Range(1, 100)] = RestorerConfig.max_tools
    """Maximum number of tools in a plan."""
    tool_cost: float = RestorerConfig.tool_cost
    """Cost of a tool in points of the score, which goes from 0 to 10: a search applies a tool only if the
    score rises by more."""
    num_plans: Annotated[int, Range(1, 1000)] = RestorerConfig.num_plans
    """Number of plans that the planner samples; a critic chooses among them and the unchanged photograph.
    With 1 the most likely plan is applied without a critic."""
    eager: Probability = RestorerConfig.eager
    """From 0, leave a photograph alone in doubt, to 1, act in doubt: moves the score at which a plan is
    preferred to the unchanged photograph by up to 2 points, and the probability above which a degradation
    is taken for present."""
    strength: Literal["auto"] | float = 1.0
    """Share of the result in its blend with the photograph, from 0 to 1; auto lets the critic choose."""
    variants: Annotated[int, Range(0, 8)] = 0
    """Also write the results of the best K plans that were tried, as NAME.variant1 and so on, and
    NAME.variants.jpg, which shows them beside each other."""
    explain: bool = False
    """Print the probability of every degradation, and every plan that was tried with its score."""
    window: NonNegativeInt = RestorerConfig.window
    """Side, in pixels, of the window of the photograph that the agent plans on; 0 for all of it."""
    max_memory: PositiveFloat | None = None
    """Memory limit in GB; large photographs are processed in tiles. By default 2.5, or what a larger
    photograph needs if half of the free memory is enough."""
    max_seconds: PositiveFloat | None = None
    """Time limit in seconds for planning and tools on each photograph, compared between tiles. By default
    there is none."""
    device: str = "auto"
    """cpu, cuda or auto."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the tools, for speed on a GPU; a tool whose results would change visibly stays in
    float32, and is named. Results differ from those in float32."""
    max_gpu_memory: PositiveFloat | None = None
    """Memory of the GPU in GB that the weights of tools may take; images and activations come on top. The
    least recently used tools leave it for the memory of the computer, and then for a temporary file. By
    default all tools stay on the GPU."""
    seed: int = 0
    """Seed of agents that sample."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        given = [name for name in ("agent", "fix", "plan") if getattr(self, name) is not None]
        if len(given) > 1:  # each of them is a way to choose the plan
            raise SettingError(given[1], repr(getattr(self, given[1])), f"no --{given[0]} beside it")
        self._check_choices()
        if self.fix is not None and not self.fix.strip(" ,"):
            raise SettingError("fix", repr(self.fix), "names of degradations, such as low_light,noise")
        if not self.out:  # an unset shell variable; as a path it would be the current folder
            raise SettingError("out", "''", "a folder or a file; this folder is called .")

    def _check_choices(self) -> None:
        if not isinstance(self.strength, str) and not 0 <= self.strength <= 1:
            raise SettingError("strength", self.strength, "auto, or a number from 0 to 1")
        if self.plan is not None and self.strength == "auto":
            raise SettingError(
                "strength", "auto", "a number beside --plan, with which no critic takes part"
            )
        if self.plan is not None and self.variants:
            raise SettingError(
                "variants", self.variants, "no --plan beside it, with which no other is tried"
            )
        for name in ("fix", "plan"):
            if getattr(self, name) is not None and self.eager != RestorerConfig.eager:
                expected = f"no --{name} beside it, which leaves no photograph alone"
                raise SettingError("eager", self.eager, expected)

    def run(self) -> int:
        """Restores, prints and writes; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.restore import run

        return run(self)
