"""Versioned benchmarks: lists of specifications with the digests of their images, shipped as files.

A version says what it was made with. If an operator or a metric changes, results of before and after cannot
be compared, and a new version is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opera_env.data import RealSource, SyntheticSource, bundled
from opera_env.data.images import list_images
from opera_env.data.sources.content import image_sha256
from opera_env.data.sources.resolve import REAL_PREFIX
from opera_env.degradations import BENCHMARK_GROUPS, DEGRADATIONS, degrade
from opera_env.degradations.real import REAL_DEGRADATIONS
from opera_env.errors import MissingWeightsError, ResultsError, SettingError
from opera_env.evaluation.benchmarks.benchmark import (
    CLEAN,
    Benchmark,
    BenchmarkSample,
    describe,
    image_digest,
)
from opera_env.evaluation.benchmarks.named import BenchmarkOptions, specs_of_recipes
from opera_env.json_files import JsonObject, read_object
from opera_env.metrics import MetricSuite
from opera_env.types import SampleSpec

_FOLDER = Path(__file__).parent / "data"
_REMEDY = "Restore the file from the repository."
_CANVAS = 128
METRICS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_yiq", "lpips", "niqe32", "piqe", "gmsd")
"""The metrics that a version depends on; those of weights that are absent are not compared."""

_METRIC_TOLERANCE = 2e-3
"""Largest difference of a metric between builds of torch, relative to its value or to 1."""


_LEVELS = 0.5
"""Largest difference of mean grey levels of real damage between processors."""


@dataclass(frozen=True)
class Version:
    """How a versioned benchmark is made.

    Attributes:
        name: Its name with the version.
        images: Name of the set of clean photographs; "bundled" for those that come with scikit-image.
        n: Number of samples of each combination; with real damage, of all samples.
        real: Whether the damage is that of cameras, weather and the web, drawn by its rule. Its images are
            not known by digests, because their statistics are computed with floating-point numbers, which
            differ in the last digit between processors.
    """

    name: str
    images: str
    n: int
    real: bool = False


VERSIONS: Mapping[str, Version] = {
    each.name: each
    for each in (
        Version("OPERA-Lite-v1", "bundled", 8),
        Version("OPERA-BSDS-v1", "bsds500-val", 20),
        Version("OPERA-Real-v1", "bsds500-val", 200, real=True),
    )
}
"""The versioned benchmarks by name."""


def load_version(name: str, options: BenchmarkOptions) -> Benchmark:
    """Loads a versioned benchmark.

    Args:
        name: A key of :data:`VERSIONS`.
        options: Options; ``hq`` is the folder of the clean photographs, if these are not bundled. The seed
            has no effect.

    Raises:
        SettingError: If the folder is not named, or an option is given that the version decides.
        ResultsError: If the file of the version is damaged.
    """
    for option in ("lq", "n", "canvas", "depth"):
        if getattr(options, option) is not None:
            raise SettingError(option, getattr(options, option), f"nothing else than {name} decides")
    row = read_object(_path(name), ResultsError, _REMEDY)
    versions = ", ".join(f"{package} {number}" for package, number in row.mapping("versions").items())
    remedy = f"use the versions of packages that it was made with ({versions})"
    return Benchmark(name, make_source(name, options), version_samples(name), remedy=remedy)


def version_samples(name: str) -> tuple[BenchmarkSample, ...]:
    """Returns the samples of a versioned benchmark, for which its photographs are not needed.

    Raises:
        ResultsError: If the file of the version is damaged.
    """
    return tuple(_read_samples(read_object(_path(name), ResultsError, _REMEDY)))


def make_source(name: str, options: BenchmarkOptions) -> SyntheticSource:
    """Returns the source of a versioned benchmark.

    Raises:
        SettingError: If the photographs are not bundled, and their folder is not named.
    """
    images, real = VERSIONS[name].images, VERSIONS[name].real
    if images == "bundled":
        if options.hq is not None:
            raise SettingError("hq", options.hq, f"no folder: {name} is on the bundled photographs")
        return bundled(_CANVAS)
    folder = options.folder("hq", name, f"the photographs of {images}")
    source = RealSource if real else SyntheticSource
    return source(list_images(folder), f"{REAL_PREFIX}{images}" if real else images, _CANVAS)


def write_version(name: str, options: BenchmarkOptions, path: Path) -> None:
    """Draws the samples of a version and writes its file.

    Args:
        name: A key of :data:`VERSIONS`.
        options: Options; see :func:`load_version`.
        path: The file.
    """
    source, number, real = make_source(name, options), VERSIONS[name].n, VERSIONS[name].real
    if real:
        rows = [spec.to_json() for spec in source.list_specs(number, None, np.random.default_rng(0))]
    else:
        recipes = [recipe for group in BENCHMARK_GROUPS.values() for recipe in group]
        specs = specs_of_recipes(source, recipes, number, seed=0)
        rows = [spec.to_json() | {"input": image_digest(source.make(spec).lq)} for spec in specs]
    head = {
        "name": name,
        "versions": {package: version(package) for package in ("numpy", "opencv-python-headless")},
        "operators": real_operator_values() if real else operator_digests(),
        "metrics": metric_values(METRICS),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
    samples = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    path.write_text("{\n" + "".join(lines) + f'  "samples": [\n{samples}\n  ]\n}}\n')


def changes_since(name: str) -> list[str]:
    """Returns what has changed since a version was made, as sentences; an empty list if nothing has.

    Args:
        name: A key of :data:`VERSIONS`.
    """
    row = read_object(_path(name), ResultsError, _REMEDY)
    needed = f"results cannot be compared with those of {name}: a new version is needed."
    operators, metrics = row.mapping("operators"), row.mapping("metrics")
    found = real_operator_values() if VERSIONS[name].real else operator_digests()
    changes = [
        f"the operator {operator} degrades other than before, {needed}"
        for operator, known in operators.items()  # others have come since, and no sample has them
        if not _is_equal(found.get(operator), known)
    ]
    values = metric_values(tuple(metrics))
    for metric, known in metrics.items():
        if metric in values and not np.allclose(
            values[metric], known, rtol=_METRIC_TOLERANCE, atol=_METRIC_TOLERANCE
        ):
            changes.append(f"the metric {metric} has other values than before, {needed}")
    return changes


def operator_digests() -> dict[str, str]:
    """Returns the digest of what each operator makes of an image, with five seeds."""
    image = _golden_image()
    return {
        name: image_sha256(
            np.concatenate([degrade(image, (name,), np.random.default_rng(seed))[0] for seed in range(5)])
        )
        for name in DEGRADATIONS
    }


def real_operator_values() -> dict[str, list[float]]:
    """Returns the means of 8 x 8 parts of what each operator of real damage makes of an image."""
    image = _golden_image()
    values: dict[str, list[float]] = {}
    for degradation in REAL_DEGRADATIONS:
        rng = np.random.default_rng(0)
        degraded = degradation.draw(rng)(image, rng)
        height, width = (side // 8 for side in degraded.shape[:2])
        parts = degraded[: 8 * height, : 8 * width].reshape(8, height, 8, width, 3).mean((1, 3, 4))
        values[degradation.name] = parts.round(3).ravel().tolist()
    return values


def _is_equal(found: Any, known: Any) -> bool:
    """Compares a digest exactly, and means of grey levels within half a level."""
    if isinstance(known, str) or found is None:
        return found == known
    return len(found) == len(known) and bool(np.allclose(found, known, rtol=0, atol=_LEVELS))


def metric_values(names: Sequence[str]) -> dict[str, list[float]]:
    """Returns the values of metrics on degraded images; those of absent weights are left out."""
    image = _golden_image()
    degraded = [
        degrade(image, recipe, np.random.default_rng(0))[0] for recipe in (("noise",), ("jpeg",), ("rain",))
    ]
    images, reference = (
        torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2) for stack in (degraded, [image])
    )
    values: dict[str, list[float]] = {}
    for name in names:
        try:
            suite = MetricSuite([name])
        except MissingWeightsError:
            continue
        features = suite.features(reference) * len(images)
        values[name] = [round(row[name], 6) for row in suite(images, features)]
    return values


@cache
def _golden_image() -> Any:
    """Returns a crop of a bundled photograph, uint8 (128, 128, 3)."""
    import skimage.data

    return np.ascontiguousarray(skimage.data.astronaut()[0:128, 160:288])


def _path(name: str) -> Path:
    return _FOLDER / f"{name}.json"


def _read_samples(row: JsonObject) -> Iterator[BenchmarkSample]:
    for item in row.objects("samples", 100_000):
        digest = item.text("input", default="")
        spec = SampleSpec.from_json({key: value for key, value in item.data.items() if key != "input"})
        yield replace(describe([spec], CLEAN)[0], input=digest)
