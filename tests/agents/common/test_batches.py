"""Batches are drawn, observed and labelled, and prepared in the background in the right order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from opera_agents.common.batches import draw_samples, label_targets, observe_batch, observe_sample, prefetch
from opera_env.data import Source
from opera_env.degradations import DEGRADATIONS
from opera_env.types import Sample


def test_samples_are_a_function_of_the_generator(source: Source) -> None:
    first, again, other = (
        [sample.spec for sample in draw_samples(source, 5, np.random.default_rng(seed))]
        for seed in (1, 1, 2)
    )
    assert len(first) == 5 and first == again != other


def test_label_targets_follow_the_order_of_the_labels(samples: list[Sample]) -> None:
    targets = label_targets(samples)
    assert targets.shape == (len(samples), len(DEGRADATIONS)) and targets.dtype == torch.float32
    for row, sample in zip(targets, samples, strict=True):
        assert {
            name for name, is_set in zip(DEGRADATIONS, row, strict=True) if is_set
        } == sample.degradations
    reversed_labels = tuple(reversed(DEGRADATIONS))
    assert torch.equal(label_targets(samples, reversed_labels), targets.flip(1))


def test_observed_batch_holds_the_observed_images(source: Source) -> None:
    samples = draw_samples(source, 3, np.random.default_rng(0))
    batch = observe_batch(samples, 4, torch.device("cpu"))
    observations = [observe_sample(sample, 4) for sample in samples]
    assert torch.equal(batch, torch.stack([observation.image for observation in observations]))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert [(observation.steps_left, observation.used) for observation in observations] == [(4, ())] * 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [range(0), range(1), range(3, 8), range(0, 10, 3)], ids=str)
def test_prefetched_batches_come_in_order(steps: range, workers: int) -> None:
    assert list(prefetch(lambda step: step * 10, steps, workers)) == [step * 10 for step in steps]


def test_next_batch_is_made_while_one_is_in_use() -> None:
    made = [threading.Event() for _ in range(3)]
    for step in prefetch(lambda step: made[step].set() or step, range(3)):
        assert all(event.wait(5) for event in made[: step + 2])


def test_error_while_making_a_batch_is_raised_at_its_step() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("no batch")
        return step

    batches = prefetch(make, range(5))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="no batch"):
        next(batches)
