"""Files of tiny programs, written without the exporters, which take seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_onnx(path: Path, level: float = 0.0) -> Path:
    """Writes a network that takes any size: a 3 x 3 convolution, and a bias."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32), "weight")
    bias = numpy_helper.from_array(np.full(3, level, np.float32), "bias")
    image, result = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3, "h", "w"]) for name in "xy"
    )
    node = helper.make_node("Conv", ["x", "weight", "bias"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "net", [image], [result], [weight, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path
