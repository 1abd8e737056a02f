"""Programs that ``torch.export`` has written: networks without their Python code."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from opera_env.errors import ToolboxError
from opera_env.tools.windows import InputSizes, restore_in_windows


class ExportedNet(nn.Module):
    """A network from a file of ``torch.export.save``; it can be trained.

    It keeps the mode, training or evaluation, in which it was exported.

    Args:
        data: The content of the file, a program that runs.

    Attributes:
        sizes: The sizes that the program was exported for.
        scale: Factor by which it enlarges.

    Raises:
        ToolboxError: If the program is not one from RGB to RGB.

    Shape:
        float32 (B, 3, H, W) to float32 (B, 3, scale * H, scale * W).
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data
        program = torch.export.load(io.BytesIO(data))
        self.sizes, self.scale = _read_interface(program)
        self.network = program.module()
        self.train(False)

    def __reduce__(self) -> tuple[type[ExportedNet], tuple[bytes]]:
        return ExportedNet, (self.to_bytes(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedNet:
        return ExportedNet(self.to_bytes())

    def forward(self, image: Tensor) -> Tensor:
        return restore_in_windows(self.network, image.contiguous(), self.sizes, self.scale)

    def train(self, mode: bool = True) -> ExportedNet:
        """Does not change the program, which has no modes."""
        for module in self.modules():
            module.training = False
        return self

    def to_bytes(self) -> bytes:
        """Returns the content of a file of the program with the present weights, on the CPU."""
        program = torch.export.load(io.BytesIO(self._data))
        state = self.network.state_dict()
        with torch.no_grad():
            for name, tensor in program.state_dict.items():
                tensor.copy_(state[name])
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        return buffer.getvalue()


def _read_interface(program: ExportedProgram) -> tuple[InputSizes, int]:
    """Returns the sizes that a program takes, and the factor by which it enlarges.

    Raises:
        ToolboxError: If it has several inputs or outputs, or is not one from RGB to RGB.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    names = [*signature.user_inputs, *signature.user_outputs]
    shapes: list[tuple[Any, ...]] = [tuple(getattr(values.get(str(name)), "shape", ())) for name in names]
    if len(shapes) != 2 or any(len(shape) != 4 or shape[1] != 3 for shape in shapes):
        found = ", ".join(map(str, shapes))
        raise ToolboxError(
            f"expected a program with one input (B, 3, H, W) and one output of that form, found {found}"
        )
    shape, result = shapes
    batch, height, width = (_Axis(program, shape[axis]) for axis in (0, 2, 3))
    scale, rest = divmod(_length(result[2]), _length(shape[2]))
    if rest or scale < 1:
        raise ToolboxError(
            "expected a result that is a whole number of times as large as the image, found "
            f"{tuple(result)} for {tuple(shape)}"
        )
    sizes = InputSizes(
        fixed=(height.fixed, width.fixed),
        multiple=max(height.factor, width.factor),
        minimum=max(height.minimum, width.minimum),
        maximum=(height.maximum, width.maximum),
        fixed_batch=batch.fixed,
        max_batch=batch.maximum,
    )
    return sizes, scale


def _expression(length: Any) -> Any:
    """Returns the length of an axis as an expression of sympy."""
    import sympy

    return length.node.expr if isinstance(length, torch.SymInt) else sympy.Integer(length)


def _length(length: Any) -> int:
    """Returns the length of an axis where all lengths that may vary are 64."""
    expression = _expression(length)
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 64)))


class _Axis:
    """What a program says of the length of an axis.

    Attributes:
        fixed: The only length; None for any.
        factor: The length is a multiple of this number.
        minimum, maximum: Smallest and largest length; a maximum of None is no limit.
    """

    def __init__(self, program: ExportedProgram, length: Any) -> None:
        self.fixed = length if isinstance(length, int) else None
        self.factor, self.minimum, self.maximum = 1, 1, None
        if self.fixed is None:
            expression = _expression(length)
            self.factor = int(expression.as_coeff_Mul()[0])
            limits = program.range_constraints.get(expression)
            if limits is not None:
                self.minimum = max(1, int(limits.lower))
                self.maximum = int(limits.upper) if limits.upper < 2**31 else None
