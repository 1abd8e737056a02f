"""A tool: a restoration network together with its name and the image sizes that it accepts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from opera_env.data.images import resize
from opera_env.tools.global_context import GlobalContextNet, LocatedNet, StatisticsSource
from opera_env.tools.padding import pad_to_multiple
from opera_env.types import Canvas

TOOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
"""What names of tools look like."""

RestoreFn = Callable[[Tensor], Tensor]
"""A restoration network: float32 (B, 3, H, W) in [0, 1] to (B, 3, scale * H, scale * W).

The result need not be clamped to [0, 1].
"""


@dataclass(frozen=True, eq=False)
class Tool:
    """A restoration network that a plan can name.

    You rarely construct a tool yourself: :meth:`opera_env.tools.Toolbox.add` makes one from a function, a
    module or a checkpoint file.

    Calling a tool pads the images to a size that the network accepts, runs the network, and crops the
    result. Between the tools of a plan, images stay float32 and may leave [0, 1]: a network that needs the
    range must clamp its input itself.

    Attributes:
        name: ``family.task``, for example ``unet.denoise``: letters, digits, dots, dashes and underscores.
        restore: The network, a module or a plain function; see :data:`RestoreFn`. Only modules can be
            trained.
        scale: Factor by which the network enlarges an image: 1, or for example 4 for super-resolution.
        multiple: The network accepts heights and widths that are multiples of this number of pixels. The
            tool pads images to such a size and crops the results.
        minimum: The network accepts heights and widths of at least this number of pixels.
        halo: Receptive-field radius: distance in pixels, at the size of the input, beyond which an input
            pixel cannot change an output pixel. Large images are cut into tiles that overlap by this much.
            None if it is unknown; statistics of the whole image do not count, see
            :class:`opera_env.tools.global_context.GlobalContextNet`.
        degradations: Names of the degradations that the tool is meant to remove. The ``matched`` baseline
            and the prompts of language models read them.
        net: Kind and options from which a saved toolbox builds the network again: ``("unet", {...})`` for a
            network of :data:`opera_env.tools.nets.NETS`, ``("my_module:MyNet", {...})`` for one of your
            own, the names of :data:`opera_env.tools.source.FILE_KINDS` for files, ``"served"`` for tools in
            other processes. None for functions and modules that were added as objects, which cannot be
            saved.
        training: How the tool was trained, as recorded in the manifest.
        measured: Measurements of the tool with the weights that it was loaded with; see
            :mod:`opera_env.tool_training.model_card`.
    """

    name: str
    restore: RestoreFn
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
        """The network as a module; None if it is a plain function."""
        return self.restore if isinstance(self.restore, nn.Module) else None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters of the network; empty if it is a plain function."""
        parameters = () if self.module is None else self.module.parameters()
        return [parameter for parameter in parameters if parameter.is_floating_point()]

    @property
    def runs_outside_torch(self) -> bool:
        """Whether torch sees neither the memory of the network nor its gradients."""
        return getattr(self.restore, "runs_outside_torch", False)

    @property
    def uses_global_context(self) -> bool:
        """Whether the result of the network depends on statistics of the whole image."""
        return self.statistics_source is not None

    @property
    def statistics_source(self) -> StatisticsSource | None:
        """What the statistics of a large image are computed from; None if the network uses none."""
        net = self.restore
        return net.statistics_source if isinstance(net, GlobalContextNet) and net.global_context else None

    def upscales(self, size: Canvas, canvas: Canvas) -> bool:
        """Returns whether the tool enlarges an image of this size.

        A tool with ``scale`` above 1 enlarges an image only while the image is smaller than its canvas.
        Otherwise its result is resized back to the size of the image.

        Args:
            size: Height and width of the image.
            canvas: Height and width at which the image will be scored.
        """
        return self.scale > 1 and (size[0] < canvas[0] or size[1] < canvas[1])

    def __call__(self, image: Tensor, canvas: Canvas) -> Tensor:
        """Restores a batch of images.

        Args:
            image: float32 (B, 3, H, W), nominally in [0, 1]; values between tools may lie outside.
            canvas: Height and width at which the images will be scored; see :meth:`upscales`.

        Returns:
            float32 (B, 3, H', W'), neither clamped nor rounded. H' and W' are H and W, or ``scale`` times
            H and W where the tool enlarges the image.

        Raises:
            ValueError: If the network returns another shape than its ``scale`` says.
        """
        return self.apply(image, self.upscales((image.shape[-2], image.shape[-1]), canvas))

    def apply(self, image: Tensor, upscale: bool, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores a batch of whole images, or of tiles of equal size.

        Args:
            image: float32 (B, 3, H, W), as for :meth:`__call__`.
            upscale: Whether a tool with ``scale`` above 1 enlarges the image; otherwise its result is
                resized back to (H, W).
            statistics: Statistics of the whole image, from :meth:`statistics`, if ``image`` is a batch of
                tiles; None for whole images.

        Returns:
            float32 (B, 3, H', W'), as from :meth:`__call__`.

        Raises:
            ValueError: If the network returns another shape than its ``scale`` says.
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
        return result if upscale else resize(result, (height, width))

    def statistics(self, image: Tensor) -> tuple[Tensor, ...] | None:
        """Computes the global statistics of a whole image, to be passed to :meth:`apply` with its tiles.

        Args:
            image: float32 (B, 3, H, W) in [0, 1].

        Returns:
            The statistics; None if the network uses none.
        """
        if not isinstance(self.restore, GlobalContextNet) or not self.uses_global_context:
            return None
        return self.restore.statistics(pad_to_multiple(image, self.multiple, self.minimum))

    def locate(
        self, statistics: tuple[Tensor, ...] | None, top: int, left: int
    ) -> tuple[Tensor, ...] | None:
        """Returns the global statistics of a whole image, from :meth:`statistics`, for one of its tiles.

        Args:
            statistics: The statistics; None if there are none.
            top: Row of the whole image at which the tile starts, in pixels.
            left: Column of the whole image at which the tile starts, in pixels.
        """
        if statistics is None or not isinstance(self.restore, LocatedNet):
            return statistics
        return self.restore.locate(statistics, top, left)
