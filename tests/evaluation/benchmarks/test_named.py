"""Benchmarks of folders: their samples, groups and combinations, and the options that they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from opera_env.degradations import BENCHMARK_GROUPS, DEGRADATIONS
from opera_env.errors import SampleError, SettingError, UnknownPresetError
from opera_env.evaluation.benchmarks import Benchmark, BenchmarkOptions, load_benchmark
from opera_env.evaluation.benchmarks.named import specs_of_recipes

Make = Callable[..., Benchmark]


def combinations(benchmark: Benchmark) -> Counter[str]:
    return Counter(sample.combination for sample in benchmark.samples)


def test_the_groups_have_all_combinations(benchmark: Benchmark) -> None:
    expected = {"+".join(recipe): 2 for recipes in BENCHMARK_GROUPS.values() for recipe in recipes}
    assert combinations(benchmark) == expected
    assert Counter(sample.group for sample in benchmark.samples) == {"A": 16, "B": 8, "C": 8}


def test_the_same_seed_makes_the_same_samples(benchmark_of: Make) -> None:
    first, second, other = (benchmark_of(seed=seed).samples for seed in (3, 3, 4))
    assert first == second
    assert [sample.spec.seed for sample in first] != [sample.spec.seed for sample in other]


def test_photographs_occur_about_equally_often(benchmark_of: Make) -> None:
    source: Any = benchmark_of().source
    specs = specs_of_recipes(source, [("noise",), ("rain",), ("jpeg",)], 2, seed=0)
    assert Counter(spec.index for spec in specs) == {0: 2, 1: 2, 2: 2}
    specs = specs_of_recipes(source, [("noise",)], 7, seed=0)
    assert sorted(Counter(spec.index for spec in specs).values()) == [2, 2, 3]


def test_single_degradations_and_clean_photographs(benchmark_of: Make) -> None:
    assert combinations(benchmark_of("single")) == dict.fromkeys(DEGRADATIONS, 2)
    misuse = benchmark_of("misuse", n=4)
    assert combinations(misuse) == {"clean": 4}
    sample = misuse.make(misuse.samples[0])
    assert sample.reference is not None and bool((sample.lq == sample.reference).all())
    assert sample.degradations == frozenset()


def test_published_folders_are_read_in_the_order_of_the_groups(tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 32), (90, 120, 150))
    for name in ("HQ", "LQ/d2/noise+jpeg compression artifact", "LQ/d2/rain+haze"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            picture.save(tmp_path / name / f"{number:03}.png")
    benchmark = load_benchmark("groups-abc", BenchmarkOptions(lq=tmp_path, n=2))
    assert list(combinations(benchmark).items()) == [("rain+haze", 2), ("noise+jpeg", 2)]
    assert benchmark.make(benchmark.samples[0]).reference is not None
    (tmp_path / "LQ/d2/rain+haze").rename(tmp_path / "LQ/d2/haze+rain")
    with pytest.raises(SampleError, match=r"sixteen combinations .*, found haze\+rain: remove"):
        load_benchmark("groups-abc", BenchmarkOptions(lq=tmp_path))


def test_real_photographs_have_the_labels_of_their_benchmark(photos: Path) -> None:
    rtts = load_benchmark("rtts", BenchmarkOptions(lq=photos))
    assert (len(rtts.samples), combinations(rtts)) == (3, {"haze": 3})
    assert rtts.make(rtts.samples[0]).degradations == {"haze"}
    lhp = load_benchmark("lhp", BenchmarkOptions(lq=photos, hq=photos))
    assert lhp.make(lhp.samples[0]).reference is not None
    assert combinations(lhp) == {"rain": 3}
    own = load_benchmark("folder", BenchmarkOptions(lq=photos, n=2))
    assert combinations(own) == {"unknown": 2}
    assert own.make(own.samples[0]).degradations is None
    paired = load_benchmark("folder", BenchmarkOptions(lq=photos, hq=photos))
    assert paired.make(paired.samples[0]).reference is not None


def test_images_that_are_known_by_content_may_be_in_a_folder_of_another_name(
    benchmark: Benchmark, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for path in photos.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    from_other = load_benchmark("folder", BenchmarkOptions(lq=other))
    sample = load_benchmark("folder", BenchmarkOptions(lq=photos)).samples[1]
    assert from_other.make(sample).spec == sample.spec
    assert bool((from_other.make(sample).lq == from_other.make(from_other.samples[1]).lq).all())


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("rtts", {}, "--benchmark rtts: expected --lq with the folder of the hazy photographs as well"),
        ("lhp", {"lq": Path("a")}, "expected --hq with the folder of their references"),
        ("folder", {}, "expected --lq with the folder of your photographs"),
        ("single", {"lq": Path("a")}, "--lq a: expected no folder of degraded images"),
        ("OPERA-BSDS-v1", {}, "expected --hq with the folder of the photographs of bsds500-val"),
        ("OPERA-BSDS-v1", {"n": 3}, "--n 3: expected nothing else than OPERA-BSDS-v1 decides"),
        ("OPERA-Lite-v1", {"hq": Path("a")}, "--hq a: expected no folder"),
        ("single", {"depth": Path("a")}, "--depth a: expected no such folder"),
        ("groups-abc", {"lq": Path("a"), "hq": Path("b")}, "--hq b: expected no such folder"),
        ("rtts", {"lq": Path("a"), "hq": Path("b")}, "--hq b: expected no such folder"),
        ("lhp", {"lq": Path("a"), "hq": Path("b"), "depth": Path("c")}, "--depth c: expected no such"),
        ("folder", {"lq": Path("a"), "depth": Path("c")}, "--depth c: expected no such folder"),
        ("groups-abc", {"n": 0}, "--n 0: expected a number of at least 1"),
    ],
)
def test_options_that_do_not_suit_are_named(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        load_benchmark(name, BenchmarkOptions(**options))


def test_unknown_names_and_folders_are_named() -> None:
    with pytest.raises(UnknownPresetError, match="unknown benchmark 'group-abc'; use one of OPERA-Lite-v1"):
        load_benchmark("group-abc")
    with pytest.raises(SampleError, match="nowhere"):
        load_benchmark("groups-abc", BenchmarkOptions(hq=Path("nowhere")))
