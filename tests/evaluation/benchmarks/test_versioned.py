"""Versioned benchmarks: whatever they were made with is as it was, or a new version is needed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opera_env.degradations.camera import Noise
from opera_env.degradations.real import REAL_LABELS
from opera_env.errors import SampleError
from opera_env.evaluation.benchmarks import VERSIONS, BenchmarkOptions, load_benchmark, versioned
from opera_env.metrics.full_reference import SsimY


@pytest.mark.parametrize("name", VERSIONS)
def test_operators_and_metrics_are_those_of_the_version(name: str) -> None:
    """If this fails, results of before and after the change cannot be compared.

    Make a new version: a new name in ``VERSIONS`` and its file by ``scripts/make_benchmark.py``.
    """
    changes = versioned.changes_since(name)
    assert not changes, "\n".join(changes)


def test_a_changed_operator_needs_a_new_version(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Noise.__call__

    def brighter(self: Noise, image: Any, *args: Any) -> Any:
        return np.minimum(apply(self, image, *args), 254)

    monkeypatch.setattr(Noise, "__call__", brighter)
    (change, *others) = versioned.changes_since("OPERA-Lite-v1")
    assert change.startswith("the operator noise degrades other than before")
    assert change.endswith("a new version is needed.")
    assert all("metric" in other for other in others)  # which are measured on noise


def test_a_changed_metric_needs_a_new_version(monkeypatch: pytest.MonkeyPatch) -> None:
    values = SsimY.values
    monkeypatch.setattr(
        SsimY, "values", lambda self, images, reference: values(self, images, reference) ** 2
    )
    changes = versioned.changes_since("OPERA-Lite-v1")
    assert [change.split()[2] for change in changes] == ["ssim_y", "ssim_yiq"]


def test_every_combination_has_its_samples() -> None:
    lite = load_benchmark("OPERA-Lite-v1")
    assert set(Counter(sample.combination for sample in lite.samples).values()) == {8}
    assert len(lite.samples) == 128
    data = json.loads((Path(versioned.__file__).parent / "data" / "OPERA-BSDS-v1.json").read_text())
    assert len(data["samples"]) == 320
    assert Counter("+".join(row["recipe"]) for row in data["samples"])["rain+haze"] == 20


def test_degraded_images_are_those_of_the_version() -> None:
    lite = load_benchmark("OPERA-Lite-v1")
    for sample in lite.samples[::9]:
        assert sample.input
        lite.make(sample)  # checks the digest


def test_real_damage_is_listed_by_its_rule() -> None:
    samples = versioned.version_samples("OPERA-Real-v1")
    counts = Counter(sample.combination for sample in samples)
    assert len(samples) == 200 and counts["clean"] in (66, 67), "a third has nothing to do"
    assert {label for name in counts if name != "clean" for label in name.split("+")} == set(REAL_LABELS)
    assert {sample.spec.source for sample in samples} == {"real:bsds500-val"}
    assert len({sample.spec.image for sample in samples}) == 100
    assert not any(sample.input for sample in samples), "digests would differ between processors"


def test_changed_real_damage_needs_a_new_version(monkeypatch: pytest.MonkeyPatch) -> None:
    values = versioned.real_operator_values()
    slightly = {name: [value + 0.1 for value in known] for name, known in values.items()}
    monkeypatch.setattr(versioned, "real_operator_values", lambda: slightly)
    monkeypatch.setattr(versioned, "metric_values", lambda names: {})
    assert versioned.changes_since("OPERA-Real-v1") == []
    slightly["haze"][5] += 2
    (change,) = versioned.changes_since("OPERA-Real-v1")
    assert change.startswith("the operator haze degrades other than before")


@pytest.mark.needs_shared_data
def test_samples_of_real_damage_are_made_from_a_folder(shared_data: Path) -> None:
    options = BenchmarkOptions(hq=shared_data / "bsds500" / "val")
    benchmark = load_benchmark("OPERA-Real-v1", options)
    made = [benchmark.make(sample) for sample in benchmark.samples[:3]]
    assert [sample.canvas for sample in made] == [(128, 128)] * 3
    assert [sample.degradations for sample in made] == [
        frozenset(sample.spec.recipe) for sample in benchmark.samples[:3]
    ]


@pytest.mark.needs_shared_data
@pytest.mark.parametrize("name", ["val", "another name"])
def test_the_photographs_may_be_in_any_folder(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.symlink_to(shared_data / "bsds500" / "val")
    benchmark = load_benchmark("OPERA-BSDS-v1", BenchmarkOptions(hq=folder))
    for sample in benchmark.samples[::64]:
        assert benchmark.make(sample).canvas == (128, 128)


def test_other_photographs_are_named(photos: Path) -> None:
    benchmark = load_benchmark("OPERA-BSDS-v1", BenchmarkOptions(hq=photos))
    with pytest.raises(SampleError, match="bsds500-val"):
        benchmark.make(benchmark.samples[0])


def test_a_version_is_written_as_it_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versioned.VERSIONS, "Test-v1", versioned.Version("Test-v1", "bundled", 1))  # pyright: ignore
    monkeypatch.setattr(versioned, "_FOLDER", tmp_path)
    versioned.write_version("Test-v1", BenchmarkOptions(), tmp_path / "Test-v1.json")
    benchmark = load_benchmark("Test-v1")
    assert len(benchmark.samples) == 16
    benchmark.make(benchmark.samples[3])
    assert versioned.changes_since("Test-v1") == []
