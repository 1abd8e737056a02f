"""A specification names its image and its content: a replay shows the same picture, or an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image

from opera_env.data import Source, SyntheticSource, agenticir, clean_folder, paired, photographs
from opera_env.data.sources.protocol import ImageCache
from opera_env.errors import SampleError
from opera_env.evaluation.compare import EvaluationConfig, compare_agents
from opera_env.types import SampleSpec
from tests.degradations.own import Vignette

RECIPES = [("noise",), ("haze", "jpeg")]


def clean(root: Path) -> Source:
    return clean_folder(root / "HQ", 32, RECIPES)


def with_depth(root: Path) -> Source:
    (root / "depth").mkdir(exist_ok=True)
    for path in (root / "HQ").glob("*.png"):
        size = Image.open(path).size
        np.save(root / f"depth/{path.stem}.npy", np.linspace(1, 2, size[0] * size[1]).reshape(size[::-1]))
    return clean_folder(root / "HQ", 32, RECIPES, depth=root / "depth")


def pairs(root: Path) -> Source:
    return paired(root / "LQ/d2/dark+noise", root / "HQ", canvas=32)


def benchmark(root: Path) -> Source:
    return agenticir(root, canvas=32)


def plain(root: Path) -> Source:
    return photographs(root / "LQ/d2/dark+noise", canvas=32)


every_source = pytest.mark.parametrize("make_source", [clean, with_depth, pairs, benchmark, plain])
MakeSource = Callable[[Path], Source]


def add_image(root: Path, name: str, image: Image.Image) -> None:
    """Adds a clean image and two degraded ones under one name."""
    for folder in ("HQ", "LQ/d2/dark+noise", "LQ/d2/haze+noise"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        image.save(root / folder / name)


@pytest.fixture
def root(tmp_path: Path, make_photograph: Callable[..., Image.Image]) -> Path:
    for number in range(3):
        add_image(tmp_path / "data", f"image{number}.png", make_photograph(40, 52, number))
    return tmp_path / "data"


def draw(source: Source, count: int = 12) -> list[SampleSpec]:
    return source.list_specs(count, RECIPES, default_rng(0))


@every_source
def test_drawn_specifications_name_image_and_content(root: Path, make_source: MakeSource) -> None:
    source = make_source(root)
    specs = [*draw(source), source.draw(default_rng(1))]
    assert all(spec.image.endswith(".png") and len(spec.sha256) == 64 for spec in specs)
    assert not any(str(root) in json.dumps(spec.to_json()) for spec in specs)
    assert len({spec.source_image for spec in specs}) == len(source)


@every_source
def test_new_files_change_nothing_for_old_specifications(
    root: Path, make_source: MakeSource, make_photograph: Callable[..., Image.Image]
) -> None:
    """The files before and after the image in the folder shift every index."""
    source = make_source(root)
    specs = draw(source)
    before = [source.make(spec) for spec in specs]
    for name, seed in (("a.png", 7), ("image1b.png", 8), ("z.png", 9)):
        add_image(root, name, make_photograph(40, 52, seed))
    grown = make_source(root)
    assert [spec.index for spec in draw(grown)] != [spec.index for spec in specs]
    for spec, sample in zip(specs, before, strict=True):
        again = grown.make(SampleSpec.from_json(json.loads(json.dumps(spec.to_json()))))
        assert torch.equal(again.lq, sample.lq)
        assert again.key == sample.key and again.spec == spec


@every_source
def test_a_changed_image_is_refused(
    root: Path, make_source: MakeSource, make_photograph: Callable[..., Image.Image]
) -> None:
    specs = draw(make_source(root))
    for folder in ("HQ", "LQ/d2/dark+noise", "LQ/d2/haze+noise"):
        make_photograph(40, 52, 99).save(root / folder / "image1.png")
    changed = make_source(root)
    for spec in specs:
        if "image1" in spec.image:
            with pytest.raises(SampleError, match=rf"image1\.png.*{spec.sha256[:12]}\.\.\., found"):
                changed.make(spec)
        else:
            assert changed.make(spec).spec == spec


@every_source
def test_one_changed_pixel_is_a_change(root: Path, make_source: MakeSource) -> None:
    spec = draw(make_source(root))[0]
    for path in root.rglob(Path(spec.image).name):
        pixels = np.array(Image.open(path))
        pixels[-1, -1, 0] ^= 1
        Image.fromarray(pixels).save(path)
    with pytest.raises(SampleError, match="not the one"):
        make_source(root).make(spec)


@every_source
def test_a_removed_image_is_refused(root: Path, make_source: MakeSource) -> None:
    """Other images take its index, which must not be shown instead."""
    specs = draw(make_source(root))
    for path in root.rglob("image0.png"):
        path.unlink()
    smaller = make_source(root)
    for spec in specs:
        if "image0" in spec.image:
            with pytest.raises(SampleError, match=r"has no image '.*image0\.png'.*put the file back"):
                smaller.make(spec)
        else:
            assert smaller.make(spec).spec == spec


def test_another_folder_of_the_same_name_is_refused(
    root: Path, tmp_path: Path, make_photograph: Callable[..., Image.Image]
) -> None:
    add_image(tmp_path / "other", "image0.png", make_photograph(40, 52, 5))
    spec = draw(clean(root))[0]
    other = clean(tmp_path / "other")
    assert other.name == spec.source and spec.image == "image0.png"
    with pytest.raises(SampleError, match=r"image0\.png"):
        other.make(spec)


def test_the_same_pixels_in_another_file_are_the_same_picture(root: Path) -> None:
    """Another compression, another name at the same place, a copy of the folder elsewhere."""
    specs = draw(clean(root))
    before = [clean(root).make(spec) for spec in specs]
    shutil.copytree(root / "HQ", root / "copy/HQ")
    for path in (root / "copy/HQ").iterdir():
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    copied = clean(root / "copy")
    for spec, sample in zip(specs, before, strict=True):
        assert copied.make(spec).key == sample.key
        assert copied.make(spec).spec == spec


def test_a_changed_reference_is_refused(root: Path, make_photograph: Callable[..., Image.Image]) -> None:
    specs = draw(pairs(root))
    make_photograph(40, 52, 50).save(root / "HQ/image2.png")
    for spec in specs:
        if spec.image == "image2.png":
            with pytest.raises(SampleError, match="reference"):
                pairs(root).make(spec)
        else:
            pairs(root).make(spec)


def test_a_changed_or_absent_depth_map_is_refused_where_haze_uses_it(root: Path) -> None:
    source = with_depth(root)
    hazy, noisy = (next(spec for spec in draw(source) if name in spec.recipe) for name in ("haze", "noise"))
    np.save(root / "depth" / Path(hazy.image).with_suffix(".npy"), np.eye(40, 52) + 0.5)
    with pytest.raises(SampleError, match="depth map"):
        source.make(hazy)
    with pytest.raises(SampleError, match="depth map"):
        clean(root).make(hazy)
    assert clean(root).make(noisy).key == source.make(noisy).key


def test_custom_degradations_may_use_the_depth_map(root: Path) -> None:
    with_depth(root)
    source = clean_folder(root / "HQ", 32, [("vignette",)], depth=root / "depth", degradations=[Vignette])
    spec = source.draw(default_rng(0))
    without = clean_folder(root / "HQ", 32, [("vignette",)], degradations=[Vignette])
    source.make(spec)
    with pytest.raises(SampleError, match="depth map"):
        without.make(spec)


@every_source
def test_specifications_without_name_and_content_still_work(root: Path, make_source: MakeSource) -> None:
    """Written by hand, or by an earlier version: the index decides, and the sample names the rest."""
    source = make_source(root)
    for spec in draw(source):
        old = {key: value for key, value in spec.to_json().items() if key not in ("image", "sha256")}
        sample = source.make(SampleSpec.from_json(old))
        assert sample.spec == spec
        assert sample.key == source.make(spec).key


def test_a_name_without_content_is_found(root: Path) -> None:
    source = clean(root)
    sample = source.make(SampleSpec("HQ", 0, image="image2.png"))
    assert sample.key == source.make(SampleSpec("HQ", 2)).key
    with pytest.raises(SampleError, match=r"no image 'image9\.png'"):
        source.make(SampleSpec("HQ", 0, image="image9.png"))


def test_content_without_a_name_is_checked(root: Path) -> None:
    source = clean(root)
    first = source.make(SampleSpec("HQ", 0)).spec
    assert source.make(SampleSpec("HQ", 0, sha256=first.sha256)).spec == first
    with pytest.raises(SampleError, match=r"image1\.png"):
        source.make(SampleSpec("HQ", 1, sha256=first.sha256))


def test_files_of_one_name_are_told_apart_by_content(root: Path) -> None:
    files = [root / "HQ/image0.png", root / "more/image0.png"]
    files[1].parent.mkdir()
    Image.open(files[0]).rotate(180).save(files[1])
    source, reordered = photographs(files), photographs(files[::-1])
    for spec in source.list_specs(2, None, default_rng(0)):
        assert spec.image == "image0.png"
        assert reordered.make(spec).key == source.make(spec).key


def test_a_file_that_changes_while_its_image_is_cached(
    root: Path, make_photograph: Callable[..., Image.Image]
) -> None:
    """The cached image is still the one that was drawn; when the file is read again, it is refused."""
    source = clean(root)
    assert isinstance(source, SyntheticSource)
    source._images = ImageCache(source._images.paths, max_bytes=1)
    specs = draw(source)
    sample = source.make(specs[0])
    make_photograph(40, 52, 77).save(root / "HQ" / specs[0].image)
    assert source.make(specs[0]).key == sample.key
    source.make(specs[1])
    with pytest.raises(SampleError, match="not the one"):
        source.make(specs[0])


@pytest.mark.parametrize("name", ["OPERA-Restore-v0", "OPERA-RestoreStepwise-v0"])
def test_environments_replay_the_same_picture_or_refuse(
    root: Path,
    make_env: Callable[..., gym.Env[Any, Any]],
    make_photograph: Callable[..., Image.Image],
    name: str,
) -> None:
    first = make_env(name, source=clean(root))
    observation, info = first.reset(seed=3)
    spec = json.loads(json.dumps(info["sample"]))
    add_image(root, "a.png", make_photograph(40, 52, 7))
    again, info_again = make_env(name, source=clean(root)).reset(options={"sample": spec})
    images = [value["image"] if isinstance(value, dict) else value for value in (observation, again)]
    assert np.array_equal(*images)
    assert info_again["sample"] == info["sample"]
    make_photograph(40, 52, 8).save(root / "HQ" / spec["image"])
    with pytest.raises(SampleError, match=spec["image"]):
        make_env(name, source=clean(root)).reset(options={"sample": spec})


def test_results_name_image_and_content(root: Path, toolbox: Any) -> None:
    source = clean(root)
    samples = [source.make(spec) for spec in draw(source, 4)]
    config = EvaluationConfig(reward="classic", regret=False)
    records = compare_agents(["untouched"], samples, toolbox, config).records
    assert len(records) == 4
    for record in records:
        assert source.make(SampleSpec.from_json(record.spec.to_json())).spec == record.spec


@pytest.mark.parametrize(
    "change",
    [
        {"image": 5},
        {"image": None},
        {"sha256": 5},
        {"sha256": "abc"},
        {"sha256": "X" * 64},
        {"recipie": []},
    ],
    ids=repr,
)
def test_malformed_names_and_contents_are_refused(change: dict[str, Any]) -> None:
    data = SampleSpec("HQ", 0).to_json() | change
    with pytest.raises(SampleError, match="to_json"):
        SampleSpec.from_json(data)


def test_a_wrong_index_does_not_matter_to_a_named_image(root: Path) -> None:
    source = clean(root)
    spec = draw(source)[0]
    for index in (2, 1000, -5):
        assert source.make(replace(spec, index=index)).key == source.make(spec).key
