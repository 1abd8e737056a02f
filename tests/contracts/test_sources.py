"""The contract of sources: a specification gives equal bits everywhere, and an unusable one is refused."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image

from opera_env.data import (
    FilesSource,
    Source,
    SyntheticSource,
    agenticir,
    bundled,
    clean_folder,
    paired,
    photographs,
    real_photographs,
    resolve_source,
)
from opera_env.degradations import DEGRADATIONS, TRAINING_RECIPES
from opera_env.errors import SampleError, UnknownDegradationError
from opera_env.types import Sample, SampleSpec
from tests.degradations.own import SaltAndPepper, Vignette

Draw = Callable[[int, int, int], Image.Image]

KINDS = (
    *("bundled", "clean_folder", "custom_degradations", "whole", "real"),
    *("paired", "larger", "agenticir", "photographs", "magnified"),
)
every_source = pytest.mark.parametrize("kind", KINDS)
CROP = 32
OWN_RECIPES = (("vignette",), ("rain", "vignette"), ("low_light", "salt_and_pepper"), ("vignette", "noise"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, make_photograph: Draw) -> Path:
    """Photographs, pairs of equal size, pairs four times larger, and a benchmark in AgenticIR's layout."""
    root = tmp_path_factory.mktemp("sources")
    combinations = ("d2/dark+jpeg compression artifact", "d3/haze+motion blur+low resolution")
    for name in ("clean", "degraded", "large", "bench/HQ", *(f"bench/LQ/{name}" for name in combinations)):
        (root / name).mkdir(parents=True)
    for number, (height, width) in enumerate(((41, 67), (64, 48), (53, 53))):
        clean = make_photograph(height, width, number)
        degraded = clean.reduce(2).resize(clean.size)
        clean.save(root / f"clean/{number}.png")
        degraded.save(root / f"degraded/{number}.jpg", quality=95)
        clean.resize((width * 4 + number, height * 4 - number)).save(root / f"large/{number}.png")
        if number < 2:
            clean.save(root / f"bench/HQ/{number:03}.png")
            degraded.save(root / "bench/LQ" / combinations[0] / f"{number:03}.png")
            clean.resize((width // 4, height // 4)).save(
                root / "bench/LQ" / combinations[1] / f"{number:03}.png"
            )
    return root


@pytest.fixture(scope="module")
def sources(folders: Path) -> dict[str, Source]:
    return {
        "bundled": bundled(canvas=CROP),
        "clean_folder": clean_folder(folders / "clean", canvas=CROP),
        "custom_degradations": clean_folder(
            folders / "clean",
            canvas=CROP,
            recipes=OWN_RECIPES,
            degradations=[SaltAndPepper(), Vignette],
        ),
        "whole": clean_folder(folders / "clean", canvas=None),
        "real": real_photographs(folders / "clean", canvas=CROP),
        "paired": paired(folders / "degraded", folders / "clean", canvas=CROP),
        "larger": paired(folders / "clean", folders / "large"),
        "agenticir": agenticir(folders / "bench"),
        "photographs": photographs(folders / "degraded"),
        "magnified": photographs(folders / "degraded", scale=2, canvas=CROP),
    }


@pytest.fixture
def source(sources: dict[str, Source], kind: str) -> Source:
    return sources[kind]


def draws(source: Source, count: int = 8, seed: int = 0) -> list[SampleSpec]:
    rng = default_rng(seed)
    return [source.draw(rng) for _ in range(count)]


def assert_equal(first: Sample, second: Sample) -> None:
    assert torch.equal(first.lq, second.lq)
    assert (first.reference is None) == (second.reference is None)
    if first.reference is not None and second.reference is not None:
        assert torch.equal(first.reference, second.reference)
    assert (first.degradations, first.canvas, first.spec, first.depth, first.key) == (
        second.degradations,
        second.canvas,
        second.spec,
        second.depth,
        second.key,
    )


@every_source
def test_every_source_follows_the_protocol(source: Source) -> None:
    assert isinstance(source, Source)
    assert source.name and len(source) > 0
    assert resolve_source(source) is source
    labels = source.degradations
    assert isinstance(labels, tuple) and len(set(labels)) == len(labels)


@every_source
def test_equal_seeds_draw_equal_specifications(source: Source) -> None:
    assert draws(source, seed=1) == draws(source, seed=1)
    if len(set(draws(source, 30))) > 2:
        assert draws(source, seed=1) != draws(source, seed=2)


@every_source
def test_the_generator_is_the_only_source_of_randomness(source: Source) -> None:
    """Neither global state nor earlier draws have an effect."""
    expected = draws(source, 4, seed=3)
    np.random.seed(9)  # noqa: NPY002 - a source must not use it
    draws(source, 3, seed=8)
    assert draws(source, 4, seed=3) == expected


@every_source
def test_all_images_are_drawn(source: Source) -> None:
    assert {spec.index for spec in draws(source, 60)} == set(range(len(source)))


@every_source
def test_making_twice_gives_the_same_bits(source: Source) -> None:
    specs = draws(source)
    first = [source.make(spec) for spec in specs]
    for sample, spec in zip(reversed(first), reversed(specs), strict=True):
        assert_equal(sample, source.make(spec))


@every_source
def test_samples_share_no_memory_with_the_source(source: Source) -> None:
    """Writing into one sample does not change the next."""
    spec = draws(source, 1)[0]
    sample = source.make(spec)
    original = sample.lq.clone()
    sample.lq.zero_()
    if sample.reference is not None:
        sample.reference.zero_()
    again = source.make(spec)
    assert torch.equal(again.lq, original)
    assert again.reference is None or again.reference.any()


@every_source
def test_specifications_survive_json(source: Source) -> None:
    for spec in draws(source):
        again = SampleSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert_equal(source.make(spec), source.make(again))


@every_source
def test_samples_are_well_formed(source: Source) -> None:
    for spec in draws(source):
        sample = source.make(spec)
        assert sample.spec == spec
        assert sample.lq.dtype == torch.float32 and sample.lq.shape[0] == 3
        assert sample.lq.min() >= 0 and sample.lq.max() <= 1
        levels = sample.lq * 255
        assert (levels - levels.round()).abs().max() < 1e-4  # 8-bit, as a file would be
        if sample.reference is not None:
            assert tuple(sample.reference.shape[-2:]) == sample.canvas
        if sample.degradations is not None:
            assert sample.degradations == set(spec.recipe) <= set(source.degradations)
        if spec.crop is not None:
            assert spec.crop[2:] == sample.canvas


@every_source
def test_samples_can_be_pickled_and_sources_without_their_images(source: Source) -> None:
    sample = source.make(draws(source, 1)[0])
    assert_equal(sample, pickle.loads(pickle.dumps(sample)))
    # A process pool pickles the source in a thread, while this process may be reading images.
    assert len(pickle.dumps(source)) < 256 * 1024


@pytest.mark.filterwarnings("ignore")
def test_another_process_makes_the_same_bits(sources: dict[str, Source]) -> None:
    """A new process gets the pickled sources; one process for all of them, as its start takes long."""
    work = [(source, draws(source, 3)) for source in sources.values()]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        for source, specs in work:
            for spec, sample in zip(specs, pool.map(source.make, specs), strict=True):
                assert_equal(sample, source.make(spec))


@every_source
def test_a_specification_of_another_source_is_refused(source: Source) -> None:
    spec = replace(draws(source, 1)[0], source="elsewhere")
    with pytest.raises(SampleError, match=rf"'elsewhere'.*'{source.name}'"):
        source.make(spec)


@every_source
@pytest.mark.parametrize("beyond", [0, 1000])
def test_an_absent_image_is_refused(source: Source, beyond: int) -> None:
    for index in (len(source) + beyond, -1 - beyond):
        with pytest.raises(SampleError, match=f"0 to {len(source) - 1}, found {index}"):
            source.make(replace(draws(source, 1)[0], index=index, image="", sha256=""))


@every_source
def test_a_crop_outside_the_image_is_refused(source: Source, subtests: pytest.Subtests) -> None:
    recipe = ("noise",) if isinstance(source, SyntheticSource) else ()
    for crop in (
        (0, 0, 4000, 4000),
        (4000, 4000, 4, 4),
        (-4, 0, 8, 8),
        (0, -4, 8, 8),
        (0, 0, 0, 8),
        (0, 0, 8, 0),
        (8, 8, -4, -4),
    ):
        with subtests.test(crop=crop), pytest.raises(SampleError, match="crop"):
            source.make(SampleSpec(source.name, 0, recipe, crop=crop))


@every_source
def test_list_specs(source: Source) -> None:
    """The given number, every image about equally often, equal for equal generators."""
    recipes = TRAINING_RECIPES[:5]
    count = 3 * len(source) + 1
    specs = source.list_specs(count, recipes, default_rng(0))
    assert len(specs) == count
    assert specs == source.list_specs(count, recipes, default_rng(0))
    times = np.bincount([spec.index for spec in specs], minlength=len(source))
    assert times.min() >= 3 and times.max() <= 4
    for spec in specs[: len(source)]:
        assert source.make(spec).spec == spec
    assert source.list_specs(0, recipes, default_rng(0)) == []


@pytest.mark.parametrize("kind", ["bundled", "clean_folder", "whole", "real"])
def test_list_specs_takes_recipes_in_turn(source: Source) -> None:
    """Images in turn as well, so that no recipe is tied to one image even with as many of both."""
    recipes = TRAINING_RECIPES[: len(source)]
    specs = source.list_specs(len(source) ** 2, recipes, default_rng(0))
    assert [spec.recipe for spec in specs] == list(recipes) * len(source)
    assert {(spec.recipe, spec.index) for spec in specs} == {
        (recipe, index) for recipe in recipes for index in range(len(source))
    }


@pytest.mark.parametrize("kind", ["paired", "agenticir", "photographs"])
def test_list_specs_keeps_the_recipes_of_files(source: Source) -> None:
    assert isinstance(source, FilesSource)
    for spec in source.list_specs(6, TRAINING_RECIPES[:2], default_rng(0)):
        assert spec.recipe == source.entries[spec.index].recipe


def test_synthesis_crops_squares_at_multiples_of_four(sources: dict[str, Source]) -> None:
    for spec in draws(sources["clean_folder"], 30):
        assert spec.crop is not None
        assert spec.crop[2:] == (CROP, CROP)
        assert all(side % 4 == 0 for side in spec.crop)


def test_synthesis_draws_one_to_three_degradations(sources: dict[str, Source]) -> None:
    """In the ratio 1 : 3 : 5."""
    lengths = np.bincount([len(spec.recipe) for spec in draws(sources["bundled"], 900)], minlength=4)
    assert lengths[0] == 0
    assert np.abs(lengths[1:] / 900 - np.array([1, 3, 5]) / 9).max() < 0.06


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("clean_folder", {(CROP, CROP)}),
        ("whole", {(40, 64), (64, 48), (52, 52)}),
        ("paired", {(CROP, CROP)}),
        ("larger", {(41 * 4, 67 * 4), (63 * 4, 48 * 4), (52 * 4, 53 * 4)}),
        ("agenticir", {(41, 67), (64, 48), (40, 64)}),
        ("photographs", {(41, 67), (64, 48), (53, 53)}),
        ("magnified", {(CROP, CROP)}),
    ],
)
def test_canvas(source: Source, kind: str, sizes: set[tuple[int, int]]) -> None:
    """The size of the reference where there is one, whatever the size of the degraded image."""
    assert {source.make(spec).canvas for spec in draws(source, 40)} == sizes


def test_low_resolution_is_a_quarter_of_its_canvas(sources: dict[str, Source]) -> None:
    source = sources["whole"]
    sample = source.make(SampleSpec(source.name, 0, ("low_resolution",)))
    assert tuple(sample.lq.shape) == (3, 10, 16) and sample.canvas == (40, 64)


def test_low_resolution_needs_multiples_of_four(sources: dict[str, Source]) -> None:
    source = sources["clean_folder"]
    with pytest.raises(SampleError, match="multiples of 4"):
        source.make(SampleSpec(source.name, 0, ("low_resolution",), crop=(0, 0, 30, 32)))


def test_images_smaller_than_the_crop_are_used_whole(folders: Path) -> None:
    source = clean_folder(folders / "clean", canvas=128)
    assert {source.make(spec).canvas for spec in draws(source, 30)} == {(40, 64), (64, 48), (52, 52)}


def test_the_seed_changes_the_degradation_and_not_the_image(sources: dict[str, Source]) -> None:
    source = sources["clean_folder"]
    spec = SampleSpec(source.name, 1, ("noise",), seed=1, crop=(0, 0, CROP, CROP))
    first, second = source.make(spec), source.make(replace(spec, seed=2))
    assert first.reference is not None and second.reference is not None
    assert torch.equal(first.reference, second.reference)
    assert not torch.equal(first.lq, second.lq)


def test_labels_of_sources(sources: dict[str, Source]) -> None:
    """All degradations that may occur, in the order in which they are applied; none without labels."""
    assert sources["bundled"].degradations == sources["whole"].degradations == DEGRADATIONS
    assert sources["custom_degradations"].degradations == (
        *("rain", "haze", "low_light", "motion_blur", "defocus_blur", "vignette"),
        *("noise", "low_resolution", "jpeg", "salt_and_pepper"),
    )
    assert sources["agenticir"].degradations == (
        *("haze", "low_light", "motion_blur", "low_resolution", "jpeg"),
    )
    assert sources["paired"].degradations == sources["photographs"].degradations == ()


def test_own_degradations_are_drawn_and_applied(sources: dict[str, Source]) -> None:
    source = sources["custom_degradations"]
    assert {spec.recipe for spec in draws(source, 60)} == set(OWN_RECIPES)
    spec = SampleSpec(source.name, 0, ("vignette",), crop=(0, 0, CROP, CROP))
    sample = source.make(spec)
    assert sample.degradations == {"vignette"}
    assert sample.reference is not None
    darker = sample.reference - sample.lq
    assert darker[:, 0, 0].mean() > darker[:, CROP // 2, CROP // 2].mean()
    with pytest.raises(UnknownDegradationError, match=r"'vignette'.*clean_folder\(folder, degradations"):
        sources["clean_folder"].make(replace(spec, source=sources["clean_folder"].name))


def test_without_recipes_own_degradations_take_part_in_all_plausible_orders(folders: Path) -> None:
    source = clean_folder(folders / "clean", degradations=[Vignette])
    assert len(source.recipes) == 9 + 45 + 153
    assert set(TRAINING_RECIPES) < set(source.recipes)
    assert ("rain", "vignette", "jpeg") in source.recipes
    assert ("jpeg", "vignette") not in source.recipes
    assert clean_folder(folders / "clean").recipes == TRAINING_RECIPES


@pytest.mark.parametrize("kind", ["clean_folder", "custom_degradations"])
def test_list_specs_without_recipes_takes_those_of_the_source(source: Source) -> None:
    assert isinstance(source, SyntheticSource)
    specs = source.list_specs(len(source.recipes), None, default_rng(0))
    assert {spec.recipe for spec in specs} == set(source.recipes)
    assert specs == source.list_specs(len(source.recipes), None, default_rng(0))


def test_an_empty_recipe_changes_nothing(sources: dict[str, Source]) -> None:
    source = sources["clean_folder"]
    sample = source.make(SampleSpec(source.name, 0))
    assert sample.reference is not None and torch.equal(sample.lq, sample.reference)
    assert sample.degradations == frozenset()


def test_an_unknown_degradation_is_refused(sources: dict[str, Source]) -> None:
    source = sources["clean_folder"]
    with pytest.raises(UnknownDegradationError, match="'snow'"):
        source.make(SampleSpec(source.name, 0, ("snow",)))


def test_pairs_fit_pixel_by_pixel(sources: dict[str, Source], folders: Path) -> None:
    """Crops of both images come from one place; a few pixels too many are cut, not resampled."""
    source = sources["larger"]
    for index in range(3):
        sample = source.make(SampleSpec(source.name, index))
        assert sample.reference is not None
        height, width = sample.lq.shape[-2:]
        assert sample.canvas == (4 * height, 4 * width)
        whole = np.asarray(Image.open(folders / f"large/{index}.png"))
        assert np.array_equal(
            (sample.reference * 255).permute(1, 2, 0).numpy().round(), whole[: 4 * height, : 4 * width]
        )
    crop = source.make(SampleSpec(source.name, 0, crop=(8, 16, 32, 24)))
    whole_sample = source.make(SampleSpec(source.name, 0))
    assert torch.equal(crop.lq, whole_sample.lq[:, 2:10, 4:10])
    assert crop.reference is not None and whole_sample.reference is not None
    assert torch.equal(crop.reference, whole_sample.reference[:, 8:40, 16:40])


def test_a_crop_between_pixels_is_refused(sources: dict[str, Source]) -> None:
    source = sources["larger"]
    with pytest.raises(SampleError, match="multiples of 4"):
        source.make(SampleSpec(source.name, 0, crop=(2, 0, 32, 32)))


def test_pairs_that_do_not_fit_are_refused(tmp_path: Path, make_photograph: Draw) -> None:
    for side, size in (("lq", (40, 40)), ("hq", (40, 60))):
        (tmp_path / side).mkdir()
        make_photograph(*size, 0).save(tmp_path / side / "0.png")
    source = paired(tmp_path / "lq", tmp_path / "hq")
    with pytest.raises(SampleError, match=r"40 x 40 .* 60 x 40"):
        source.make(SampleSpec(source.name, 0))


def test_pairs_are_found_by_name(tmp_path: Path, folders: Path, make_photograph: Draw) -> None:
    (tmp_path / "lq").mkdir()
    make_photograph(64, 48, 1).save(tmp_path / "lq/1.png")
    source = paired(tmp_path / "lq", folders / "clean")
    sample = source.make(SampleSpec(source.name, 0))
    assert sample.reference is not None and torch.equal(sample.lq, sample.reference)
    make_photograph(16, 16, 1).save(tmp_path / "lq/alone.png")
    with pytest.raises(SampleError, match=r"alone\.png has no partner"):
        paired(tmp_path / "lq", folders / "clean")


def test_agenticir_reads_labels_from_folders(sources: dict[str, Source]) -> None:
    source = sources["agenticir"]
    assert len(source) == 4
    recipes = {spec.recipe for spec in draws(source, 30)}
    assert recipes == {("low_light", "jpeg"), ("haze", "motion_blur", "low_resolution")}
    small = next(spec for spec in draws(source, 30) if "haze" in spec.recipe)
    sample = source.make(small)
    assert sample.degradations == {"haze", "motion_blur", "low_resolution"}
    assert sample.canvas == tuple(4 * side for side in sample.lq.shape[-2:])
    assert sample.depth is None  # the source did not apply the haze


def test_agenticir_refuses_other_layouts(tmp_path: Path, folders: Path, make_photograph: Draw) -> None:
    with pytest.raises(SampleError, match="LQ/d2"):
        agenticir(folders / "clean")
    (tmp_path / "LQ/d2/dark+snow").mkdir(parents=True)
    (tmp_path / "HQ").mkdir()
    make_photograph(16, 16, 0).save(tmp_path / "LQ/d2/dark+snow/0.png")
    with pytest.raises(SampleError, match="'snow' is none of"):
        agenticir(tmp_path)


def test_photographs_have_neither_reference_nor_labels(sources: dict[str, Source]) -> None:
    for kind in ("photographs", "magnified"):
        sample = sources[kind].make(draws(sources[kind], 1)[0])
        assert sample.reference is None and sample.degradations is None
        assert sample.spec.recipe == ()


def test_pairs_have_no_labels(sources: dict[str, Source]) -> None:
    sample = sources["paired"].make(draws(sources["paired"], 1)[0])
    assert sample.reference is not None and sample.degradations is None


def test_photographs_may_be_given_as_files(folders: Path) -> None:
    source = photographs([folders / "clean/2.png", str(folders / "clean/0.png")])
    assert source.name == "photographs"
    assert [source.make(SampleSpec("photographs", index)).canvas for index in (0, 1)] == [
        (53, 53),
        (41, 67),
    ]


@pytest.mark.parametrize("make", [clean_folder, photographs, agenticir], ids=lambda make: make.__name__)
def test_sources_without_images_are_refused(tmp_path: Path, make: Callable[..., Any]) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SampleError, match=folder.name):
            make(folder)
    with pytest.raises(SampleError):
        photographs([])


@pytest.mark.parametrize("canvas", [0, -4, 30])
def test_an_unusable_canvas_is_refused(folders: Path, canvas: int) -> None:
    with pytest.raises(SampleError, match=r"multiple of 4"):
        clean_folder(folders / "clean", canvas=canvas)


@pytest.mark.needs_shared_data
def test_the_photographs_of_the_project(shared_data: Path) -> None:
    source = clean_folder(shared_data / "bsds500" / "val", canvas=128)
    assert len(source) >= 100
    for spec in draws(source, 3):
        assert source.make(spec).canvas == (128, 128)
