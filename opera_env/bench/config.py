"""The names of the benchmarks, and the tools that they use by default."""

from __future__ import annotations

from typing import Literal, TypeAlias

BenchmarkName: TypeAlias = Literal[
    "exhaustive",
    "group",
    "service",
    "vector",
    "overhead_ms",
    "large",
    "scaling",
    "cotraining",
    "startup",
    "paper",
]
"""Names of benchmarks; :data:`opera_env.bench.benchmarks.BENCHMARKS` has the benchmarks themselves."""

STUDY_TOOLS = ("unet.denoise", "unet.derain", "unet.dehaze", "unet.defocus_deblur")
"""One tool each for noise, rain, haze and blur; there are 340 plans of one to four of them."""
