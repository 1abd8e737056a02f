"""The benchmarks that take a folder of the user's, or the bundled photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opera_env.data import FilesSource, SyntheticSource, agenticir, bundled, paired, photographs
from opera_env.data.images import list_images
from opera_env.degradations import BENCHMARK_GROUPS, DEGRADATIONS, Recipe
from opera_env.errors import SampleError, SettingError
from opera_env.evaluation.benchmarks.benchmark import CLEAN, Benchmark, describe, rotate
from opera_env.settings import NonNegativeInt, PositiveInt, check_settings
from opera_env.types import SampleSpec

EACH_TOOL = "each_tool"
"""Stands for the agents ``single:TOOL`` of all tools that are for a degradation of a sample; on clean
images, of all tools."""

_BUNDLED_CANVAS = 128


@dataclass(frozen=True)
class BenchmarkOptions:
    """What a benchmark is made from.

    Attributes:
        hq: Folder of clean photographs; None for the bundled ones, where a benchmark degrades them itself.
        lq: Folder of degraded photographs.
        n: Number of samples of each combination; None for the number of the benchmark.
        canvas: Side of square crops in pixels; None for whole images, and for 128 with the bundled ones.
        depth: Folder of depth maps for haze.
        seed: Seed of crops and degradations.
    """

    hq: Path | None = None
    lq: Path | None = None
    n: PositiveInt | None = None
    canvas: PositiveInt | None = None
    depth: Path | None = None
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_settings(self)

    def folder(self, option: str, benchmark: str, content: str) -> Path:
        """Returns the folder of an option.

        Raises:
            SettingError: If it was not given.
        """
        folder = self.hq if option == "hq" else self.lq
        if folder is None:
            raise SettingError("benchmark", benchmark, f"--{option} with the folder of {content} as well")
        return folder

    def refuse(self, benchmark: str, **options: Path | None) -> None:
        """Checks that folders which a benchmark has no use for were not given.

        Raises:
            SettingError: If one was.
        """
        for name, given in options.items():
            if given is not None:
                raise SettingError(name, given, f"no such folder with --benchmark {benchmark}")


def groups_abc(options: BenchmarkOptions) -> Benchmark:
    """The groups A, B and C of AgenticIR: 16 combinations, synthesised or as they were published."""
    name = "groups-abc"
    recipes = tuple(recipe for group in BENCHMARK_GROUPS.values() for recipe in group)
    if options.lq is None:
        return _synthesised(name, recipes, options, n=20)
    options.refuse(f"{name} --lq", hq=options.hq, depth=options.depth)
    source = agenticir(options.lq, options.canvas)
    specs = _first_specs(source, None, options.seed)
    if unknown := sorted({"+".join(spec.recipe) for spec in specs if spec.recipe not in recipes}):
        raise SampleError(
            f"{options.lq}: expected images of the sixteen combinations of the benchmark, found "
            f"{', '.join(unknown)}: remove these folders, or name them as in the published images."
        )
    chosen = [
        spec
        for recipe in recipes
        for spec in [spec for spec in specs if spec.recipe == recipe][: options.n]
    ]
    return Benchmark(name, source, describe(chosen))


def single(options: BenchmarkOptions) -> Benchmark:
    """Single degradations, 20 samples of each (the paper's table 12, right)."""
    return _synthesised("single", [(name,) for name in DEGRADATIONS], options, n=20, agents=(EACH_TOOL,))


def misuse(options: BenchmarkOptions) -> Benchmark:
    """100 clean photographs, which every tool should leave as they are (the paper's table 12, left)."""
    return _synthesised("misuse", [()], options, n=100, agents=(EACH_TOOL,))


def rtts(options: BenchmarkOptions) -> Benchmark:
    """Photographs of real haze, without references (the paper's table 2)."""
    folder = options.folder("lq", "rtts", "the hazy photographs")
    options.refuse("rtts", hq=options.hq, depth=options.depth)
    return _files("rtts", photographs(folder, canvas=options.canvas, recipe=("haze",)), options)


def lhp(options: BenchmarkOptions) -> Benchmark:
    """Photographs of real rain with references (the paper's table 3)."""
    lq = options.folder("lq", "lhp", "the rainy photographs")
    hq = options.folder("hq", "lhp", "their references")
    options.refuse("lhp", depth=options.depth)
    return _files("lhp", paired(lq, hq, options.canvas, ("rain",)), options)


def folder(options: BenchmarkOptions) -> Benchmark:
    """Photographs of the user's, with or without references."""
    lq = options.folder("lq", "folder", "your photographs")
    options.refuse("folder", depth=options.depth)
    if options.hq is None:
        return _files("folder", photographs(lq, canvas=options.canvas), options)
    return _files("folder", paired(lq, options.hq, options.canvas), options)


BENCHMARKS: Mapping[str, Callable[[BenchmarkOptions], Benchmark]] = {
    "groups-abc": groups_abc,
    "single": single,
    "misuse": misuse,
    "rtts": rtts,
    "lhp": lhp,
    "folder": folder,
}
"""The benchmarks by name; each has its samples from the options."""


def _synthesised(
    name: str,
    recipes: Sequence[Recipe],
    options: BenchmarkOptions,
    n: int,
    agents: tuple[str, ...] = (),
) -> Benchmark:
    """Returns a benchmark of clean photographs that are degraded on demand."""
    if options.lq is not None:
        raise SettingError("lq", options.lq, f"no folder of degraded images with --benchmark {name}")
    if options.hq is None:
        options.refuse(f"{name} without --hq", depth=options.depth)
        source = bundled(_BUNDLED_CANVAS if options.canvas is None else options.canvas)
    else:
        source = SyntheticSource(list_images(options.hq), name, options.canvas, depth=options.depth)
    specs = specs_of_recipes(source, recipes, options.n or n, options.seed)
    return Benchmark(name, source, describe(specs, CLEAN), agents)


def specs_of_recipes(
    source: SyntheticSource, recipes: Sequence[Recipe], n: int, seed: int
) -> list[SampleSpec]:
    """Lists ``n`` specifications of each recipe, in which all photographs occur about equally often."""
    specs: list[SampleSpec] = []
    for number, recipe in enumerate(recipes):
        rng = np.random.default_rng([seed, number])
        rounds = -(-n // len(source))
        drawn = source.list_specs(rounds * len(source), [recipe], rng)
        specs += rotate(drawn, number * n, n)
    return specs


def _first_specs(source: FilesSource, n: int | None, seed: int) -> list[SampleSpec]:
    """Lists the first ``n`` images of a source; None lists all."""
    count = len(source) if n is None else min(n, len(source))
    return source.list_specs(count, None, np.random.default_rng(seed))


def _files(name: str, source: FilesSource, options: BenchmarkOptions) -> Benchmark:
    return Benchmark(name, source, describe(_first_specs(source, options.n, options.seed)))
