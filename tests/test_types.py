"""The shared types: specifications as JSON, samples and their keys, outcomes, protocols."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opera_env.degradations import TRAINING_RECIPES
from opera_env.errors import OperaError, PlanParseError, SampleError
from opera_env.types import Agent, Decision, Observation, Outcome, Sample, SampleSpec, Search

sides = st.integers(0, 5000)
specs = st.builds(
    SampleSpec,
    source=st.text(min_size=1),
    index=st.integers(0, 10**6),
    recipe=st.sampled_from([(), *TRAINING_RECIPES]),
    seed=st.integers(0, 2**63 - 1),
    crop=st.none() | st.tuples(sides, sides, sides, sides),
    image=st.text(),
    sha256=st.sampled_from(["", "0123456789abcdef" * 4]),
)


def make_sample(**changes: Any) -> Sample:
    generator = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {
        "lq": torch.rand(3, 8, 12, generator=generator),
        "reference": torch.rand(3, 8, 12, generator=generator),
        "degradations": frozenset({"haze"}),
        "canvas": (8, 12),
        "spec": SampleSpec("here", 0, ("haze",), seed=3),
        "depth": "procedural",
    }
    return Sample(**(values | changes))


@given(specs)
def test_a_specification_round_trips_through_json(spec: SampleSpec) -> None:
    assert SampleSpec.from_json(spec.to_json()) == spec
    assert SampleSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(specs)
def test_equal_specifications_hash_equal(spec: SampleSpec) -> None:
    again = SampleSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert hash(again) == hash(spec)
    assert replace(spec, seed=spec.seed + 1) != spec


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lq": torch.zeros(3, 8, 12).numpy()}, "expected lq of a sample as .*, found ndarray"),
        ({"lq": torch.zeros(3, 8, 12).byte()}, r"lq of a sample .*, found uint8 \(3, 8, 12\)"),
        ({"lq": torch.zeros(8, 12, 3)}, r"lq of a sample .*, found float32 \(8, 12, 3\)"),
        ({"lq": torch.full((3, 8, 12), 255.0)}, r"lq of a sample .*, found values in \[255, 255\]"),
        ({"lq": torch.full((3, 8, 12), float("nan"))}, r"found values in \[nan, nan\]"),
        ({"reference": torch.full((3, 8, 12), -0.5)}, r"reference of a sample .*, found values in \[-0.5"),
        ({"degradations": "haze"}, "expected a set of names as the degradations .*, found 'haze'"),
        ({"canvas": (8, 13)}, "expected a canvas of the size of the reference"),
    ],
    ids=str,
)
def test_samples_with_other_images_or_labels_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        make_sample(**changes)


def test_missing_keys_of_a_specification_have_defaults() -> None:
    assert SampleSpec.from_json({"source": "a", "index": 4}) == SampleSpec("a", 4, (), 0, None)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"source": "a"},
        {"index": 1},
        {"source": "a", "index": "first"},
        {"source": "a", "index": None},
        {"source": "a", "index": 0, "seed": "x"},
        {"source": "a", "index": 0, "seed": -1},
        {"source": "a", "index": 0, "recipe": 7},
        {"source": "a", "index": 0, "crop": [1, 2, 3]},
        {"source": "a", "index": 0, "crop": [1, 2, 3, 4, 5]},
        {"source": "a", "index": 0, "crop": 5},
    ],
    ids=repr,
)
def test_invalid_specifications_raise(data: dict[str, Any]) -> None:
    with pytest.raises(SampleError, match="to_json"):
        SampleSpec.from_json(data)


def test_all_types_are_frozen() -> None:
    instances = (
        SampleSpec("a", 0),
        make_sample(),
        Outcome(None),
        Decision(()),
        Observation(*[torch.zeros(1)] * 2),
    )
    for instance in instances:
        with pytest.raises(FrozenInstanceError):
            setattr(instance, next(iter(vars(instance))), None)


def test_equal_images_have_equal_keys() -> None:
    other_sample = make_sample(spec=SampleSpec("elsewhere", 9), degradations=None, depth=None)
    assert make_sample().key == other_sample.key
    assert make_sample().key == pickle.loads(pickle.dumps(make_sample())).key
    transposed = make_sample().lq.transpose(1, 2).contiguous().transpose(1, 2)
    assert not transposed.is_contiguous()
    assert make_sample(lq=transposed).key == make_sample().key


def test_different_images_have_different_keys() -> None:
    sample = make_sample()
    changed = sample.lq.clone()
    changed[0, 0, 0] += 1 / 255
    assert sample.reference is not None
    other_samples = (
        make_sample(lq=changed),
        make_sample(reference=sample.reference.flip(2)),
        make_sample(lq=sample.reference, reference=sample.lq),
        make_sample(reference=None),
        make_sample(reference=None, canvas=(16, 24)),
        make_sample(lq=sample.lq.reshape(3, 12, 8)),
        make_sample(lq=sample.lq[:, :4]),
    )
    keys = [sample.key, *(other_sample.key for other_sample in other_samples)]
    assert len(set(keys)) == len(keys)


def test_the_canvas_must_have_the_size_of_the_reference() -> None:
    with pytest.raises(SampleError, match=r"\(8, 12\), found \(16, 24\)"):
        make_sample(canvas=(16, 24))
    assert make_sample(lq=torch.rand(3, 2, 3)).canvas == (8, 12)  # the degraded image may be smaller


def test_a_blind_sample_has_neither_reference_nor_labels() -> None:
    sample = make_sample()
    blind = sample.blind()
    assert torch.equal(blind.lq, sample.lq) and blind.canvas == sample.canvas
    assert blind.reference is None
    assert blind.degradations is None
    assert blind.spec == replace(sample.spec, recipe=())
    assert blind.depth is None  # the origin of the depth would reveal the haze
    assert blind.key != sample.key
    assert blind.blind().key == blind.key
    assert sample.reference is not None and sample.degradations == {"haze"}


def test_the_image_of_an_outcome_is_in_floating_point() -> None:
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    image = Outcome(pixels).image()
    assert image.dtype == torch.float32 and image.shape == (3, 4, 5)
    assert torch.equal((image * 255).round().to(torch.uint8), pixels)


def test_the_error_for_a_missing_image_names_the_option() -> None:
    with pytest.raises(ValueError, match="restored=True"):
        Outcome(None, r_q=1.0).image()


def test_an_observation_has_no_reference_and_no_labels() -> None:
    fields = set(vars(Observation(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))))
    assert fields == {"image", "original", "used", "steps_left", "input_size", "history"}


def test_a_parse_error_is_not_an_empty_plan() -> None:
    empty, unreadable = Decision(()), Decision((), error=PlanParseError("no <answer>"))
    assert empty != unreadable
    assert issubclass(PlanParseError, OperaError)


class _EmptyPlanAgent:
    closed_loop = False

    def act(self, observations: Any) -> list[Decision]:
        return [Decision(()) for _ in observations]


class _EmptyPlanSearch:
    def search(self, samples: Any, scorer: Any) -> list[tuple[str, ...]]:
        return [() for _ in samples]


def test_the_protocols_distinguish_agents_and_searches() -> None:
    assert isinstance(_EmptyPlanAgent(), Agent) and not isinstance(_EmptyPlanAgent(), Search)
    assert isinstance(_EmptyPlanSearch(), Search) and not isinstance(_EmptyPlanSearch(), Agent)
