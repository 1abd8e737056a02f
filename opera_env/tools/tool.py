"""A tool: a restoration network with its name and its rules of size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.data.images import resize
from opera_env.types import Canvas

Restore = Callable[[Tensor], Tensor]
"""float32 (B, 3, H, W) in [0, 1] to (B, 3, scale * H, scale * W), not necessarily clamped."""


def pad_to_multiple(image: Tensor, multiple: int, minimum: int = 1) -> Tensor:
    """Pads right and bottom so that both sides are multiples and at least ``minimum``.

    The border is mirrored while there is enough to mirror, else repeated.

    Example:
        >>> pad_to_multiple(torch.zeros(1, 3, 5, 16), 8).shape
        torch.Size([1, 3, 8, 16])
    """
    height, width = image.shape[-2:]
    least = minimum + -minimum % multiple
    rows = max(least, height + -height % multiple) - height
    columns = max(least, width + -width % multiple) - width
    if not rows and not columns:
        return image
    mode = "reflect" if rows < height and columns < width else "replicate"
    return F.pad(image, (0, columns, 0, rows), mode=mode)


StatisticsSource = Literal["copy", "windows", "all"]
"""What is shown of a large photograph to a network that looks at the whole of it."""


@runtime_checkable
class GlobalContextNet(Protocol):
    """A network that bases its result on statistics of the whole image, and can be told them.

    Without that, a tile of a large image would be restored as if it were the whole image.

    Attributes:
        global_context: Whether this one does; its class may leave the choice.
        overview: What its statistics of a photograph are taken from that is too large to go through it at
            once. A smaller "copy" leaves nothing out, but has less noise and sharper edges; "windows"
            side by side have just as much, and leave something out; "all" is the photograph, of which
            the network must make nothing that is much larger.
    """

    global_context: bool
    overview: StatisticsSource

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns what the network knows of a whole image, (B, 3, H, W)."""
        ...

    def __call__(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores an image, or a part of one whose statistics are given."""
        ...


@dataclass(frozen=True, eq=False)
class Tool:
    """A restoration network that a plan can name.

    Attributes:
        name: ``family.task``; no comma, blank or angle bracket.
        restore: The network. It may clamp inside if it needs a range.
        scale: How many times larger its result is: 1, or e.g. 4 for super-resolution.
        multiple: Height and width must be multiples of this; the tool pads and cuts.
        minimum: Height and width must be at least this; the tool pads and cuts.
        halo: How many pixels around a pixel can change its result, statistics of the whole image
            apart; None if nobody has said. Large images are cut into tiles by it.
        degradations: What it is meant for; the ``matched`` baseline and prompts read it.
        net: Kind and options from which the network can be built again, if it is one of
            ours: ``("unet", {...})``.
        training: How it was trained, as in the manifest.
        measured: What was measured of it with the weights it was loaded with; see
            :mod:`opera_env.tool_training.card`.
    """

    name: str
    restore: Restore
    scale: int = 1
    multiple: int = 1
    minimum: int = 1
    halo: int | None = None
    degradations: frozenset[str] = frozenset()
    net: tuple[str, Mapping[str, Any]] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> nn.Module | None:
        """The network as a module, None if it is a plain function."""
        return self.restore if isinstance(self.restore, nn.Module) else None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What can be trained in it; nothing where it is a plain function."""
        every = () if self.module is None else self.module.parameters()
        return [parameter for parameter in every if parameter.is_floating_point()]

    @property
    def uses_global_context(self) -> bool:
        """Whether the network bases its result on statistics of the whole image."""
        return self.overview is not None

    @property
    def overview(self) -> StatisticsSource | None:
        """What statistics of a large image are taken from; None if the network bases nothing on them."""
        net = self.restore
        return net.overview if isinstance(net, GlobalContextNet) and net.global_context else None

    def upscales(self, size: Canvas, canvas: Canvas) -> bool:
        """Whether the tool enlarges an image of this size: only while it is smaller than its canvas."""
        return self.scale > 1 and (size[0] < canvas[0] or size[1] < canvas[1])

    def __call__(self, image: Tensor, canvas: Canvas) -> Tensor:
        """Restores a batch.

        Args:
            image: float32 (B, 3, H, W), nominally in [0, 1]; may lie outside between tools.
            canvas: Size at which the images will be judged; decides whether a tool with
                scale > 1 enlarges or acts at constant size.

        Returns:
            float32 (B, 3, H', W'); H' and W' are H and W, or ``scale`` times that where the
            tool grows the image. Neither clamped nor rounded.

        Raises:
            ValueError: If the network returns another shape than its scale says.
        """
        return self.apply(image, self.upscales((image.shape[-2], image.shape[-1]), canvas))

    def apply(self, image: Tensor, grow: bool, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores a batch of images, or of equal parts of larger ones.

        Args:
            image: As for calling the tool.
            grow: Whether a tool with scale > 1 enlarges, or acts at constant size.
            statistics: Of the whole image, if the images are parts and the network wants to
                know; see :class:`GlobalContextNet`.
        """
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple, self.minimum)
        if statistics is not None and isinstance(self.restore, GlobalContextNet):
            result = self.restore(padded, statistics)
        else:
            result = self.restore(padded)
        expected = (image.shape[0], 3, padded.shape[2] * self.scale, padded.shape[3] * self.scale)
        if not isinstance(result, Tensor) or tuple(result.shape) != expected:
            found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"expected a result of shape {expected}, found {found}")
        result = result[..., : height * self.scale, : width * self.scale].to(torch.float32)
        return result if grow else resize(result, (height, width))

    def statistics(self, image: Tensor) -> tuple[Tensor, ...] | None:
        """What the network knows of a whole image (B, 3, H, W); None if it looks at nothing like that."""
        if not isinstance(self.restore, GlobalContextNet) or not self.uses_global_context:
            return None
        return self.restore.statistics(pad_to_multiple(image, self.multiple, self.minimum))
