"""Batches of training samples: drawing, observing, labelling, and preparing them in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from opera_env.data import Source
from opera_env.degradations import DEGRADATIONS
from opera_env.envs.observation import Episode, observe
from opera_env.types import Observation, Sample

BatchT = TypeVar("BatchT")


def draw_samples(source: Source, count: int, rng: Generator) -> list[Sample]:
    """Draws samples from a source, one after the other."""
    return [source.make(source.draw(rng)) for _ in range(count)]


def label_targets(samples: Sequence[Sample], labels: Sequence[str] = DEGRADATIONS) -> Tensor:
    """Returns which degradations each sample has, as targets of a classifier.

    Args:
        samples: A sample without known degradations counts as having none.
        labels: Names of the degradations, in the order of the columns.

    Returns:
        float32 (B, K) of zeros and ones.
    """
    return torch.tensor(
        [[float(name in (sample.degradations or ())) for name in labels] for sample in samples]
    )


def observe_sample(sample: Sample, max_tools: int = 0) -> Observation:
    """Returns what an agent observes of a sample before the first tool.

    Args:
        sample: The sample.
        max_tools: Maximum number of tools in a plan, the observation's ``steps_left``.
    """
    return observe(Episode(sample), max_tools)


def observe_batch(samples: Sequence[Sample], max_tools: int, device: torch.device) -> Tensor:
    """Returns the observed images of samples of one size, float32 (B, 3, H, W) in [0, 1], channels last."""
    images = [observe_sample(sample, max_tools).image for sample in samples]
    return torch.stack(images).to(device, memory_format=torch.channels_last)


def prefetch(make: Callable[[int], BatchT], steps: range, workers: int = 0) -> Iterator[BatchT]:
    """Yields ``make(step)`` for each step, and makes the next batch in the background meanwhile.

    Args:
        make: Makes the batch of a step; must depend on the step alone.
        steps: The steps.
        workers: Number of processes that make batches, for a GPU that one thread cannot keep busy; 0 makes
            them in one thread. Where processes cannot be forked, only 0 works.
    """
    if workers:
        # Forked processes inherit what ``make`` refers to, so that nothing has to be pickled.
        options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": "fork"}
        dataset = _PrefetchDataset(make, steps)
        yield from DataLoader(dataset, batch_size=None, collate_fn=_identity, **options)
        return
    with ThreadPoolExecutor(1) as background:
        futures = deque(background.submit(make, step) for step in steps[:1])
        for step in steps:
            if step + steps.step in steps:
                futures.append(background.submit(make, step + steps.step))
            yield futures.popleft().result()


class _PrefetchDataset(Dataset[Any]):
    """The batches of a run by position."""

    def __init__(self, make: Callable[[int], Any], steps: range) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.make(self.steps[index])


def _identity(batch: Any) -> Any:
    return batch
