"""The weights of a network as one block of bytes, which can lie in any memory or in a file."""

from __future__ import annotations

import mmap
import tempfile

import torch
from torch import Tensor, nn

_ALIGNMENT = 256
"""Every tensor begins at a multiple of this number of bytes, as where torch allocates it."""


class WeightBlock:
    """The parameters and buffers of a module, which become views of one block of bytes.

    The identities and version counters of the tensors stay as they are, so that a toolbox does not take a
    move for a change of its weights.

    Args:
        name: Name of the tool.
        module: Its network, on the CPU.

    Attributes:
        nbytes: Size of the block.
        users: Number of calls that run the network now.
        home: The block off the device, uint8 (nbytes,).
    """

    home: Tensor

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.users = name, 0
        self._module = module  # lives as long as its identity is a key
        self._tensors = list(dict.fromkeys([*module.parameters(), *module.buffers()]))
        self._strides = [_dense_strides(tensor) for tensor in self._tensors]
        self._starts: list[int] = []
        self.nbytes = 0
        for tensor in self._tensors:
            self._starts.append(self.nbytes)
            self.nbytes += tensor.nbytes + -tensor.nbytes % _ALIGNMENT
        self._away: Tensor | None = None
        self._versions = self._count_changes()  # of the values in the home, unless the tensors are there
        self._file: tuple[Tensor, tuple[int, ...]] | None = None

    @property
    def identities(self) -> frozenset[int]:
        """Identities of the tensors."""
        return frozenset(map(id, self._tensors))

    def gather(self) -> Tensor:
        """Returns a new block with the present values."""
        block = torch.zeros(self.nbytes, dtype=torch.uint8)
        for tensor, view in zip(self._tensors, self._views(block), strict=True):
            view.copy_(tensor.detach())
        return block

    def settle(self, block: Tensor) -> None:
        """Makes a block with the present values the home, to which the tensors move if they are at home."""
        self.home = block
        if self._away is None:
            self._point_to(block)

    def expect_copy(self) -> None:
        """Notes that a copy of the home is being made: later changes are not in it."""
        self._versions = self._count_changes()

    @property
    def changed_at_home(self) -> bool:
        """Whether weights at home have changed since :meth:`expect_copy`, so that the copy is stale."""
        return self._away is None and self._versions != self._count_changes()

    def move_to(self, copy: Tensor) -> None:
        """Makes the tensors views of a copy of the home."""
        if self._away is not copy:
            self._away = copy
            self._point_to(copy)

    def go_home(self) -> None:
        """Makes the tensors views of the home again, with what has changed meanwhile."""
        if self._away is None:
            return
        if self._versions != self._count_changes():
            self.home.copy_(self._away)
        self._away = None
        self._point_to(self.home)

    def detach(self) -> None:
        """Gives every tensor memory of its own."""
        with torch.inference_mode(False):
            for tensor, view in zip(self._tensors, self._views(self.home), strict=True):
                tensor.data = view.clone()

    def to_file(self) -> Tensor:
        """Returns the home in a temporary file, which is written only if it has changed since.

        The file has no name, so that nothing is left of it when the process ends in whatever way. Pages
        that are written to become private memory.

        Raises:
            OSError: If the file cannot be written, for example because the disk is full.
        """
        versions = self._count_changes() if self._away is None else self._versions
        if self._file is None or self._file[1] != versions:
            with tempfile.TemporaryFile() as file:
                file.write(self.home.numpy().data)
                file.flush()
                pages = mmap.mmap(file.fileno(), self.nbytes, access=mmap.ACCESS_COPY)
            self._file = torch.frombuffer(pages, dtype=torch.uint8), versions
        return self._file[0]

    def _views(self, block: Tensor) -> list[Tensor]:
        return [
            block[start : start + tensor.nbytes].view(tensor.dtype).as_strided(tensor.shape, strides)
            for tensor, start, strides in zip(self._tensors, self._starts, self._strides, strict=True)
        ]

    def _point_to(self, block: Tensor) -> None:
        with torch.inference_mode(False):  # inference tensors could not be trained later
            for tensor, view in zip(self._tensors, self._views(block), strict=True):
                tensor.data = view

    def _count_changes(self) -> tuple[int, ...]:
        return tuple(0 if tensor.is_inference() else tensor._version for tensor in self._tensors)


def _dense_strides(tensor: Tensor) -> tuple[int, ...]:
    """Returns the strides of a copy: those of the tensor, unless elements share memory or leave gaps."""
    return torch.empty_like(tensor, device="meta").stride()
