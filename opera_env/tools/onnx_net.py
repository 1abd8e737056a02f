"""Networks in ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from opera_env.errors import ToolboxError, error_message
from opera_env.tools.windows import InputSizes, restore_in_windows

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxNet:
    """A network from an ONNX file. It has no gradients and cannot be trained.

    It runs on the device of the images if ONNX Runtime can, and on the CPU otherwise.

    Args:
        data: The content of the file, weights included.

    Attributes:
        data: As above.
        sizes: The sizes that the network takes, as the file says.
        scale: Factor by which it enlarges, as the file says; 1 if the file does not say it.

    Raises:
        ToolboxError: If ONNX Runtime is not installed, or the network is not one from RGB to RGB.

    Shape:
        float32 (B, 3, H, W) to float32 (B, 3, scale * H, scale * W).
    """

    runs_outside_torch = True

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._sessions: dict[str, InferenceSession] = {}
        session = self._session("cpu")
        self.sizes, self.scale = _read_interface(session)

    def __reduce__(self) -> tuple[type[OnnxNet], tuple[bytes]]:
        return OnnxNet, (self.data,)

    def __call__(self, image: Tensor) -> Tensor:
        return restore_in_windows(self._run, image, self.sizes, self.scale)

    def _run(self, image: Tensor) -> Tensor:
        session = self._session(image.device.type)
        source, target = session.get_inputs()[0], session.get_outputs()[0].name
        array = image.detach().cpu().numpy().astype(_INPUT_TYPES[source.type], copy=False)
        (result,) = session.run([target], {source.name: np.ascontiguousarray(array)})
        return torch.from_numpy(np.asarray(result, np.float32)).to(image.device)

    def _session(self, device: str) -> InferenceSession:
        if device not in self._sessions:
            self._sessions[device] = _make_session(self.data, device)
        return self._sessions[device]


def read_onnx(path: Path) -> OnnxNet:
    """Reads a network from an ONNX file and the files of weights beside it.

    Raises:
        ToolboxError: If the packages are not installed, or the file holds no network from RGB to RGB.
    """
    try:
        import onnx
    except ImportError as error:
        raise _not_installed(error) from error
    try:
        model = onnx.load(path)
        for tensor in model.graph.initializer:  # the weights are part of the content from here on
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
        data = model.SerializeToString()
    except Exception as error:  # protobuf and onnx raise errors of many classes for damaged files
        raise ToolboxError(f"it cannot be read as ONNX ({error_message(error)})") from error
    return OnnxNet(data)


def _make_session(data: bytes, device: str) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise _not_installed(error) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    # Waiting threads sleep: spinning ones cost ten times the work where another process wants a core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = [f"{device.upper()}ExecutionProvider", "CPUExecutionProvider"]
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(data, options, providers=list(dict.fromkeys(providers)))
    except Exception as error:  # ONNX Runtime raises errors of its own classes
        raise ToolboxError(f"ONNX Runtime refuses the network ({error_message(error)})") from error


def _not_installed(error: ImportError) -> ToolboxError:
    return ToolboxError(
        f"ONNX files need the packages onnx and onnxruntime ({error}): pip install 'opera-env[onnx]'"
    )


def _read_interface(session: InferenceSession) -> tuple[InputSizes, int]:
    """Returns the sizes that a network takes, and the factor by which it enlarges.

    Raises:
        ToolboxError: If it has several inputs, or is not one from RGB to RGB.
    """
    inputs, output = session.get_inputs(), session.get_outputs()[0]
    shapes = [list(item.shape or ()) for item in (inputs[0], output)]
    is_image = inputs[0].type in _INPUT_TYPES and all(map(_may_be_rgb, shapes))
    if len(inputs) != 1 or not is_image:
        found = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
        raise ToolboxError(
            "expected a network with one input, float (B, 3, H, W), and a first output of that form, found "
            f"the inputs {found} and the output {output.type} {output.shape}"
        )
    batch, _, *sides = shapes[0]
    fixed = tuple(side if isinstance(side, int) and side > 0 else None for side in sides)
    sizes = InputSizes(
        fixed=(fixed[0], fixed[1]), fixed_batch=batch if isinstance(batch, int) and batch > 0 else None
    )
    return sizes, _read_scale(sides, shapes[1][2:])


def _may_be_rgb(shape: list[Any]) -> bool:
    return len(shape) == 4 and (shape[1] == 3 or not isinstance(shape[1], int))


def _read_scale(sides: list[Any], results: list[Any]) -> int:
    """Returns the ratio of the sides of a result and an image; 1 if the file does not say it.

    Example:
        >>> _read_scale([64, 48], [128, 96]), _read_scale(["h", "w"], ["2*h", "2*w"])
        (2, 2)
        >>> _read_scale(["h", "w"], ["height", None])
        1
    """
    side, result = sides[0], results[0]
    if isinstance(side, int) and isinstance(result, int) and side > 0:
        return max(1, result // side)
    match = re.fullmatch(r"(\d+)\s*\*\s*(.+)", str(result))
    return int(match[1]) if match and match[2] == side else 1
