"""Padding to sizes that a network accepts: size and content of the border."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from opera_env.tools import pad_to_multiple


@pytest.mark.parametrize(("multiple", "minimum"), [(1, 1), (4, 1), (8, 1), (3, 10), (8, 9), (1, 6)])
def test_the_padded_size_is_the_smallest_that_is_accepted(
    multiple: int, minimum: int, subtests: pytest.Subtests
) -> None:
    for height, width in product((1, 2, 3, 7, 8, 9, 17), (1, 5, 8, 13)):
        with subtests.test(height=height, width=width):
            _check_padding(height, width, multiple, minimum)


def _check_padding(height: int, width: int, multiple: int, minimum: int) -> None:
    image = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(image, multiple, minimum)
    rows, columns = padded.shape[-2:]
    assert rows % multiple == 0
    assert columns % multiple == 0
    assert rows >= max(height, minimum)
    assert columns >= max(width, minimum)
    assert rows < max(height, minimum) + multiple, "not more than necessary"
    assert columns < max(width, minimum) + multiple
    assert torch.equal(padded[..., :height, :width], image)
    # The border consists of values of the image, mirrored or repeated; it contains no zeros.
    assert bool(torch.isin(padded, image).all())
    if rows > height and rows - height < height and columns - width < width:
        assert torch.equal(padded[..., height, :width], image[..., height - 2, :])


def test_an_accepted_size_is_not_padded() -> None:
    image = torch.rand(1, 3, 16, 24)
    assert pad_to_multiple(image, 8) is image
