"""The contract's types: specifications as JSON, samples and their keys, outcomes, protocols."""

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
def test_a_specification_survives_json(spec: SampleSpec) -> None:
    assert SampleSpec.from_json(spec.to_json()) == spec
    assert SampleSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(specs)
def test_equal_specifications_hash_equal(spec: SampleSpec) -> None:
    again = SampleSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert hash(again) == hash(spec)
    assert replace(spec, seed=spec.seed + 1) != spec


def test_a_short_specification_has_defaults() -> None:
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
        {"source": "a", "index": 0, "recipe": 7},
        {"source": "a", "index": 0, "crop": [1, 2, 3]},
        {"source": "a", "index": 0, "crop": [1, 2, 3, 4, 5]},
        {"source": "a", "index": 0, "crop": 5},
    ],
    ids=repr,
)
def test_no_specification(data: dict[str, Any]) -> None:
    with pytest.raises(SampleError, match="to_json"):
        SampleSpec.from_json(data)


def test_everything_is_frozen() -> None:
    things = (
        SampleSpec("a", 0),
        make_sample(),
        Outcome(None),
        Decision(()),
        Observation(*[torch.zeros(1)] * 2),
    )
    for thing in things:
        with pytest.raises(FrozenInstanceError):
            setattr(thing, next(iter(vars(thing))), None)


def test_equal_images_have_equal_keys() -> None:
    other = make_sample(spec=SampleSpec("elsewhere", 9), degradations=None, depth=None)
    assert make_sample().key == other.key
    assert make_sample().key == pickle.loads(pickle.dumps(make_sample())).key
    transposed = make_sample().lq.transpose(1, 2).contiguous().transpose(1, 2)
    assert not transposed.is_contiguous()
    assert make_sample(lq=transposed).key == make_sample().key


def test_different_images_have_different_keys() -> None:
    sample = make_sample()
    changed = sample.lq.clone()
    changed[0, 0, 0] += 1 / 255
    assert sample.reference is not None
    others = (
        make_sample(lq=changed),
        make_sample(reference=sample.reference.flip(2)),
        make_sample(lq=sample.reference, reference=sample.lq),
        make_sample(reference=None),
        make_sample(reference=None, canvas=(16, 24)),
        make_sample(lq=sample.lq.reshape(3, 12, 8)),
        make_sample(lq=sample.lq[:, :4]),
    )
    keys = [sample.key, *(other.key for other in others)]
    assert len(set(keys)) == len(keys)


def test_the_canvas_is_the_references_size() -> None:
    with pytest.raises(SampleError, match=r"\(16, 24\).*\(8, 12\)"):
        make_sample(canvas=(16, 24))
    assert make_sample(lq=torch.rand(3, 2, 3)).canvas == (8, 12)  # the degraded image may be smaller


def test_a_blind_sample_keeps_the_image_and_no_secret() -> None:
    sample = make_sample()
    blind = sample.blind()
    assert torch.equal(blind.lq, sample.lq) and blind.canvas == sample.canvas
    assert blind.reference is None
    assert blind.degradations is None
    assert blind.spec == replace(sample.spec, recipe=())
    assert blind.depth is None  # it would say that there is haze
    assert blind.key != sample.key
    assert blind.blind().key == blind.key
    assert sample.reference is not None and sample.degradations == {"haze"}


def test_an_outcome_gives_its_image() -> None:
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    image = Outcome(pixels).image()
    assert image.dtype == torch.float32 and image.shape == (3, 4, 5)
    assert torch.equal((image * 255).round().to(torch.uint8), pixels)


def test_an_outcome_without_image_says_how_to_keep_it() -> None:
    with pytest.raises(ValueError, match="restored=True"):
        Outcome(None, r_q=1.0).image()


def test_an_observation_holds_no_secret() -> None:
    fields = set(vars(Observation(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))))
    assert fields == {"image", "original", "used", "steps_left"}


def test_a_parse_error_is_not_an_empty_plan() -> None:
    nothing, nonsense = Decision(()), Decision((), error=PlanParseError("no <answer>"))
    assert nothing != nonsense
    assert issubclass(PlanParseError, OperaError)


class _Plays:
    closed_loop = False

    def act(self, observations: Any) -> list[Decision]:
        return [Decision(()) for _ in observations]


class _Searches:
    def search(self, samples: Any, scorer: Any) -> list[tuple[str, ...]]:
        return [() for _ in samples]


def test_agents_and_searches_are_told_apart() -> None:
    assert isinstance(_Plays(), Agent) and not isinstance(_Plays(), Search)
    assert isinstance(_Searches(), Search) and not isinstance(_Searches(), Agent)
