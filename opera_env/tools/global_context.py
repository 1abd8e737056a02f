"""The protocol of networks whose result depends on statistics of the whole image."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

StatisticsSource = Literal["downscaled", "windows", "full"]
"""What the global statistics of an image are computed from when the image is too large for one pass.

- ``"downscaled"``: one downscaled copy of the image. It covers the whole image, but it has less noise and
  sharper edges than the image itself.
- ``"windows"``: windows of the image at its own resolution, side by side. Noise and edges are those of the
  image, but the windows do not cover all of it.
- ``"full"``: the whole image. The network must then compute its statistics without activations that are
  much larger than the image.
"""


@runtime_checkable
class GlobalContextNet(Protocol):
    """A network that computes statistics of the whole image, and also accepts them from outside.

    A large image is restored tile by tile. A network such as NAFNet, which averages over its whole input,
    would average over each tile alone and restore neighbouring tiles differently. With this protocol the
    statistics are computed once per image and passed to the network with every tile.

    Attributes:
        global_context: Whether this instance uses global statistics at all; a class may make it an option.
        statistics_source: What the statistics of a large image are computed from.
    """

    global_context: bool
    statistics_source: StatisticsSource

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Computes the statistics of a whole image.

        Args:
            image: float32 (B, 3, H, W) in [0, 1]; H and W are sizes that the network accepts.

        Returns:
            Any number of tensors with a leading batch axis, in the form that :meth:`__call__` takes.
        """
        ...

    def __call__(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores an image, or a tile of one.

        Args:
            image: float32 (B, 3, H, W) in [0, 1]: whole images, or tiles.
            statistics: What :meth:`statistics` returned for the whole image; None to compute them from
                ``image``.

        Returns:
            float32 (B, 3, scale * H, scale * W).
        """
        ...


@runtime_checkable
class LocatedNet(GlobalContextNet, Protocol):
    """A network whose statistics differ from place to place, so that a tile has to say where it lies."""

    def locate(self, statistics: tuple[Tensor, ...], top: int, left: int) -> tuple[Tensor, ...]:
        """Returns the statistics for a tile.

        Args:
            statistics: What :meth:`statistics` returned for the whole image.
            top: Row of the whole image at which the tile starts, in pixels.
            left: Column of the whole image at which the tile starts, in pixels.
        """
        ...
