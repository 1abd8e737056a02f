"""Networks that take only some sizes: windows and parts of batches give what the network gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from opera_env.tools.windows import InputSizes, restore_in_windows


class Sized(nn.Module):
    """Blurs and enlarges by 2; refuses sizes that it is not made for."""

    def __init__(self, sizes: InputSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.calls: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.calls.append(tuple(image.shape))
        assert self.sizes.fixed_batch in (None, len(image))
        assert len(image) <= (self.sizes.max_batch or 99)
        for side, fixed, largest in zip(
            image.shape[-2:], self.sizes.fixed, self.sizes.maximum, strict=True
        ):
            assert fixed in (None, side) and side <= (largest or 9999) and side % self.sizes.multiple == 0
        return self.whole(image)

    @staticmethod
    def whole(image: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool2d(image, 5, 1, 2)  # zeros beyond the border change five pixels
        return nn.functional.interpolate(blurred, scale_factor=2, mode="nearest")


@pytest.mark.parametrize(
    "sizes",
    [
        InputSizes(),
        InputSizes(fixed=(64, 48)),
        InputSizes(fixed=(64, None), fixed_batch=1),
        InputSizes(maximum=(70, 53), multiple=8),
        InputSizes(max_batch=2),
        InputSizes(fixed=(96, 160), fixed_batch=2),
    ],
    ids=str,
)
def test_windows_and_parts_of_batches_give_what_the_network_gives(sizes: InputSizes) -> None:
    image = torch.rand(3, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    net = Sized(sizes)
    result = restore_in_windows(net, image, sizes, 2)
    assert (result - Sized.whole(image)).abs().max() < 1e-3
    assert len(net.calls) > 1 or sizes == InputSizes()


def test_no_seam_is_left_where_windows_disagree() -> None:
    """A network that returns another grey level for each window: neighbours are blended."""
    levels = iter(range(100))
    result = restore_in_windows(
        lambda part: torch.full_like(part, float(next(levels))),
        torch.zeros(1, 3, 64, 200),
        InputSizes(fixed=(64, 64)),
        1,
    )
    assert len(result[0, 0, 0].unique()) > 20
    assert result[0, 0, 0].diff().max() < 0.2
    assert result.min() == 0 and result[0, 0, 0, -1] == result.max()


@pytest.mark.parametrize("length", [16, 17, 32, 40, 160, 1000])
@pytest.mark.parametrize(("side", "multiple"), [(16, 1), (16, 8), (16, 16), (1, 1), (5, 1)])
def test_windows_of_any_size_cover_all_of_an_image(length: int, side: int, multiple: int) -> None:
    length -= length % multiple
    image = torch.rand(1, 3, side, length)
    result = restore_in_windows(lambda part: part, image, InputSizes((side, side), multiple), 1)
    assert (result - image).abs().max() < 1e-5


def test_a_window_of_another_size_is_refused() -> None:
    sizes = InputSizes(fixed=(8, 8))
    with pytest.raises(ValueError, match=r"expected 16 x 16 pixels for a window of 8 x 8, found 8 x 8"):
        restore_in_windows(lambda part: part, torch.zeros(1, 3, 8, 20), sizes, 2)


def test_gradients_pass_through_windows() -> None:
    image = torch.rand(1, 3, 8, 20, requires_grad=True)
    restore_in_windows(lambda part: 2 * part, image, InputSizes(fixed=(8, 8)), 1).sum().backward()
    assert image.grad is not None and torch.allclose(image.grad, torch.full_like(image, 2.0))
