"""The critic's data: files and batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_agents.critic.config import CriticConfig
from opera_agents.critic.dataset import ScoredImages, sample_batch
from opera_agents.critic.train import train
from opera_env.errors import RunError

Configure = Callable[..., CriticConfig]


@pytest.fixture
def scored_images() -> ScoredImages:
    return ScoredImages(
        torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8),
        torch.tensor([[6.0, 3.0], [2.0, 1.5], [1.0, 1.0]]),
        torch.tensor([0, 0, 1]),
        torch.tensor([True, False, False]),
        (("noise", "jpeg"), ()),
    )


def test_shards_are_read_back(tmp_path: Path, scored_images: ScoredImages) -> None:
    scored_images.save(tmp_path / "a.npz")
    loaded = ScoredImages.load(tmp_path / "a.npz")
    assert loaded.recipes == scored_images.recipes
    for name in ("images", "terms", "sample_index", "is_reference"):
        assert torch.equal(getattr(loaded, name), getattr(scored_images, name))
    assert scored_images.r_q.tolist() == [9.0, 3.5, 2.0]
    twice = ScoredImages.concat([scored_images, scored_images])
    assert twice.sample_index.tolist() == [0, 0, 1, 2, 2, 3] and twice.recipes == scored_images.recipes * 2


def test_damaged_shards_are_named(tmp_path: Path, scored_images: ScoredImages) -> None:
    path = tmp_path / "000.npz"
    scored_images.save(path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[300] ^= 1  # of the images
    for damaged in (b"", content[:-10], bytes(flipped), b"text"):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"000\.npz: expected a shard of collected data .*: delete it"):
            ScoredImages.load(path)


def test_batches_have_several_images_of_each_photograph(configure: Configure) -> None:
    count = 40
    scored_images = ScoredImages(
        torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone(),
        torch.arange(count, dtype=torch.float32)[:, None],
        torch.arange(count) // 8,
        torch.zeros(count, dtype=torch.bool),
        ((),) * 5,
    )
    scored_images.images[..., 0] += 100
    rows = list(torch.arange(count).split(8))
    config = configure()
    for step in range(10):
        images, terms, sample = sample_batch(scored_images, rows, config, step)
        r_q = terms[:, 0]
        assert images.shape == (6, 3, 4, 4) and len(set(r_q.tolist())) == 6
        assert sorted(torch.bincount(sample).tolist())[-2:] == [3, 3]
        assert torch.equal((images * 255).round().amin((1, 2, 3)), r_q), (
            "image, value and sample index belong together"
        )
        again = sample_batch(scored_images, rows, config, step)
        assert all(torch.equal(a, b) for a, b in zip((images, terms, sample), again, strict=True))
    batches = [sample_batch(scored_images, rows, config, step)[0] for step in range(10)]
    is_flipped = [bool((images[..., 0] > images[..., 3]).all()) for images in batches]
    is_unflipped = [bool((images[..., 3] > images[..., 0]).all()) for images in batches]
    assert not all(is_flipped) and not all(is_unflipped), "some images are mirrored"


def test_images_of_a_photograph_are_cropped_alike(configure: Configure) -> None:
    """They are cropped and mirrored alike, and differently at the next step."""
    place = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(6, 3, 8, 8)
    scored_images = ScoredImages(
        place.clone(), torch.ones(6, 1), torch.zeros(6).long(), torch.zeros(6).bool(), ((),)
    )
    config = configure(crop_size=5)
    batches = [sample_batch(scored_images, [torch.arange(6)], config, step)[0] for step in range(10)]
    assert all(images.shape == (3, 3, 5, 5) and (images == images[:1]).all() for images in batches)
    assert len({images.amin().item() for images in batches}) > 3
    (whole, _, _) = sample_batch(scored_images, [torch.arange(6)], configure(crop_size=20), 0)
    assert whole.shape == (3, 3, 8, 8)


def test_batches_differ_between_steps(configure: Configure) -> None:
    config = configure(steps=1)
    train(config)
    scored_images = ScoredImages.load(config.out / "train" / "000.npz")
    rows = [torch.from_numpy(np.flatnonzero(scored_images.sample_index == number)) for number in range(4)]
    first, second = (sample_batch(scored_images, rows, config, step) for step in (0, 1))
    assert first[1].tolist() != second[1].tolist()
