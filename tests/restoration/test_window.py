"""The window of a photograph that an agent plans on."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from opera_env.restoration import representative_window


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def test_the_window_is_most_like_the_image() -> None:
    half = torch.zeros(3, 320, 1024)
    half[..., 512:] = 1
    window = representative_window(half, 128)
    assert tuple(window.shape) == (3, 128, 128)
    assert abs(window.mean().item() - 0.5) < 0.13
    bright = torch.full((3, 500, 500), 0.9)
    bright[:, 300:, 200:400] = 0
    assert abs(representative_window(bright, 96).mean() - bright.mean()).item() < 0.1


def test_the_window_is_a_view_at_full_resolution() -> None:
    large = noise(300, 333)
    window = representative_window(large, 64)
    assert window.untyped_storage().data_ptr() == large.untyped_storage().data_ptr()
    offset = window.storage_offset()
    top, left = divmod(int(offset), 333)
    assert (window == large[:, top : top + 64, left : left + 64]).all()


def test_an_image_that_fits_into_the_window_is_returned() -> None:
    for height, width in ((1, 1), (64, 64), (3, 50)):
        image = noise(height, width)
        assert representative_window(image, 64) is image


@settings(deadline=None, max_examples=200)
@given(
    height=st.integers(1, 150), width=st.integers(1, 150), side=st.integers(1, 200), seed=st.integers(0, 9)
)
def test_a_window_of_any_image_has_its_size(height: int, width: int, side: int, seed: int) -> None:
    image = noise(height, width, seed)
    window = representative_window(image, side)
    assert tuple(window.shape) == (3, min(side, height), min(side, width))
    top, left = divmod(int(window.storage_offset()) - int(image.storage_offset()), width)
    assert (window == image[:, top : top + side, left : left + side]).all()
