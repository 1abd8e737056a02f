"""Seeds by content: equal images draw equally, others independently."""

from __future__ import annotations

import numpy as np
import torch

from opera_env.seeding import content_seed


def test_the_seed_is_a_function_of_seed_and_content() -> None:
    image = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    seed = content_seed(3, image)
    assert content_seed(3, image.clone()) == seed
    assert content_seed(3, image.permute(1, 2, 0).contiguous().permute(2, 0, 1)) == seed, (
        "strides are ignored"
    )
    others = [
        content_seed(4, image),
        content_seed(3, image + 1e-7),
        content_seed(3, image.reshape(3, 7, 5)),
        content_seed(3, image.double()),
    ]
    assert len({seed, *others}) == 5


def test_seeds_suit_numpy_and_torch() -> None:
    seeds = [content_seed(number, torch.zeros(3, 1, 1)) for number in range(-3, 50)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    for seed in seeds:
        np.random.default_rng(seed)
        torch.Generator().manual_seed(seed)
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    assert 0.4 < bits.mean() < 0.6
