"""The critic's data: images with their R_q, as files and as batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.common.shards import open_shard
from opera_agents.critic.config import CriticConfig
from opera_env.degradations import Recipe
from opera_env.files import atomic_write


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Images with the terms of their R_q.

    Attributes:
        images: Images, uint8 (N, 3, H, W).
        terms: Contribution of each term of the reward to R_q, float32 (N, T).
        sample_index: Index of the sample that each image is a result of, int64 (N,), ascending from 0.
        is_reference: Whether the image is the reference itself, bool (N,).
        recipes: Recipe of each sample.
    """

    images: Tensor
    terms: Tensor
    sample_index: Tensor
    is_reference: Tensor
    recipes: tuple[Recipe, ...]

    @property
    def r_q(self) -> Tensor:
        """R_q of the images, float32 (N,)."""
        return self.terms.sum(1)

    @property
    def summary(self) -> str:
        """Number of images and mean R_q, in words."""
        return f"{len(self.terms)} images, mean R_q {self.r_q.mean():.2f}"

    @classmethod
    def concat(cls, datasets: Sequence[ScoredImages]) -> ScoredImages:
        """Concatenates several data sets; samples are numbered consecutively."""
        starts = np.cumsum([0, *(len(dataset.recipes) for dataset in datasets)])
        return cls(
            torch.cat([dataset.images for dataset in datasets]),
            torch.cat([dataset.terms for dataset in datasets]),
            torch.cat(
                [
                    dataset.sample_index + int(start)
                    for dataset, start in zip(datasets, starts, strict=False)
                ]
            ),
            torch.cat([dataset.is_reference for dataset in datasets]),
            tuple(recipe for dataset in datasets for recipe in dataset.recipes),
        )

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file atomically."""
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                images=self.images.numpy(),
                terms=self.terms.numpy(),
                sample_index=self.sample_index.numpy(),
                is_reference=self.is_reference.numpy(),
                recipes=np.array(["+".join(recipe) for recipe in self.recipes]),
            )

    @classmethod
    def load(cls, path: Path) -> ScoredImages:
        """Reads the file that :meth:`save` wrote.

        Raises:
            RunError: If the file is damaged.
        """
        with open_shard(path) as file:
            recipes = tuple(tuple(filter(None, str(text).split("+"))) for text in file["recipes"])
            images, terms, sample_index, is_reference = (
                torch.from_numpy(file[name]) for name in ("images", "terms", "sample_index", "is_reference")
            )
        return cls(images, terms, sample_index, is_reference, recipes)


def sample_batch(
    scored_images: ScoredImages, rows: Sequence[Tensor], config: CriticConfig, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws several images of each of several photographs, as a function of the seed and of the step.

    Args:
        scored_images: The data.
        rows: Rows of the data, for each sample.
        config: Numbers of photographs and images, and the size of the crops.
        step: Training step.

    Returns:
        Images float32 (N, 3, H, W) in [0, 1], terms float32 (N, T) and sample indices int64 (N,).
    """
    rng = make_rng(config.seed, SeedStage.CRITIC_TRAINING, step)
    images: list[Tensor] = []
    indices: list[Tensor] = []
    for sample in rng.choice(len(rows), min(config.photographs_per_batch, len(rows)), replace=False):
        order = torch.from_numpy(rng.permutation(len(rows[sample]))[: config.images_per_photograph])
        index = rows[sample][order]
        crops = scored_images.images[index]
        if config.crop_size is not None:
            top, left = (
                int(rng.integers(max(0, side - config.crop_size) + 1)) for side in crops.shape[-2:]
            )
            crops = crops[..., top : top + config.crop_size, left : left + config.crop_size]
        images.append(crops.flip(-1) if rng.random() < 0.5 else crops)
        indices.append(index)
    index = torch.cat(indices)
    batch = torch.cat(images).to(torch.float32) / 255
    return batch, scored_images.terms[index], scored_images.sample_index[index]
