"""The source of real photographs: frequencies, references, looks, names, and bits that never change."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from opera_env.data import RealSource, clean_folder, real_photographs, resolve_source
from opera_env.degradations.real import LOOKS, REAL_DEGRADATIONS, REAL_LABELS
from opera_env.errors import SampleError, UnknownDegradationError
from opera_env.types import SampleSpec


@pytest.fixture(scope="module")
def source() -> RealSource:
    return real_photographs(canvas=48)


def test_labels_are_the_vocabulary_of_the_rule(source: RealSource) -> None:
    assert source.degradations == REAL_LABELS
    assert source.name == "real:bundled"


def test_a_third_has_nothing_to_do(source: RealSource) -> None:
    rng = default_rng(0)
    empty = sum(not source.draw(rng).recipe for _ in range(600)) / 600
    assert empty == pytest.approx(1 / 3, abs=0.07)
    listed = source.list_specs(60, None, default_rng(0))
    assert sum(not spec.recipe for spec in listed) in (20, 21)


def test_nothing_to_do_means_that_the_input_is_the_reference(source: RealSource) -> None:
    """Whatever its look, and the look is that of the source."""
    looks: Counter[str | None] = Counter()
    for seed in range(24):
        spec = SampleSpec(source.name, 2, (), seed, (0, 0, 48, 48))
        sample = source.make(spec)
        assert sample.reference is not None and torch.equal(sample.lq, sample.reference)
        assert sample.degradations == frozenset()
        looks[source.look(spec)] += 1
        plain = source.make(SampleSpec(source.name, 2, ("jpeg",), seed, (0, 0, 48, 48))).reference
        assert plain is not None
        assert torch.equal(plain, sample.reference) == (source.look(spec) is None)
    assert looks[None] > 4 and len(looks) > 4 and set(looks) <= {None, *LOOKS}


def test_damaged_samples_have_the_photograph_as_reference(source: RealSource) -> None:
    for label in REAL_LABELS:
        sample = source.make(SampleSpec(source.name, 0, (label,), 3, (100, 200, 48, 48)))
        assert sample.reference is not None and sample.reference.shape == (3, 48, 48)
        assert sample.degradations == {label}
        if sample.lq.shape == sample.reference.shape:
            assert not torch.equal(sample.lq, sample.reference)


def test_golden_specifications(source: RealSource) -> None:
    rng = default_rng(0)
    specs = [source.draw(rng) for _ in range(50)] + source.list_specs(50, None, rng)
    text = json.dumps([[spec.index, spec.recipe, spec.seed, spec.crop] for spec in specs])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "ad126162711b771a"


def test_recipes_may_be_chosen() -> None:
    source = real_photographs(canvas=32, recipes=[("haze",), ("over_processed", "jpeg")])
    rng = default_rng(0)
    drawn = Counter(source.draw(rng).recipe for _ in range(100))
    assert set(drawn) == {("haze",), ("over_processed", "jpeg")} and min(drawn.values()) > 30
    with pytest.raises(UnknownDegradationError, match="snow"):
        real_photographs(recipes=[("snow",)])


def test_a_source_is_found_by_name(tmp_path: Path) -> None:
    from skimage.io import imsave

    (tmp_path / "photos").mkdir()
    imsave(tmp_path / "photos/0.png", np.full((40, 40, 3), 90, np.uint8), check_contrast=False)
    source = resolve_source(f"real:{tmp_path / 'photos'}", 32, "haze,low_light+noise")
    assert isinstance(source, RealSource) and source.name == "real:photos" and source.canvas == 32
    assert source.recipes == (("haze",), ("low_light", "noise"))
    assert isinstance(resolve_source("real:bundled", 64), RealSource)
    whole = resolve_source("real:bundled", None)
    assert isinstance(whole, RealSource) and whole.draw(default_rng(0)).crop is None


@pytest.mark.parametrize(
    ("name", "message"), [("real:", "name a folder"), ("real:nowhere", "found no folder")]
)
def test_a_name_without_a_folder_is_refused(name: str, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        resolve_source(name)


def test_own_degradations_beside_the_rule_are_refused() -> None:
    with pytest.raises(SampleError, match="degradations of its own"):
        resolve_source("real:bundled", degradations=REAL_DEGRADATIONS)


def test_the_world_of_the_benchmark_is_not_changed(tmp_path: Path) -> None:
    """Real degradations replace built-in ones in a source that is given them, and in no other."""
    from skimage.io import imsave

    imsave(tmp_path / "0.png", np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3))
    spec = SampleSpec(tmp_path.name, 0, ("noise",), 5, None)
    before = clean_folder(tmp_path, canvas=None).make(spec)
    replaced = clean_folder(tmp_path, canvas=None, degradations=REAL_DEGRADATIONS).make(spec)
    after = clean_folder(tmp_path, canvas=None).make(spec)
    assert torch.equal(before.lq, after.lq) and not torch.equal(before.lq, replaced.lq)
