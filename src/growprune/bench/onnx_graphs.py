"""Models for other engines: an LSTM layer, or all of a packed network, as ONNX."""

from typing import Any

import numpy as np

from growprune.bench.lstm import Array, LstmWeights

OPSET, IR_VERSION = 17, 9
"""Old enough for any engine of the last years, new enough for layer norm."""


def lstm(weights: LstmWeights, time: int) -> bytes:
    """One layer at batch 1: `x, h, c` to `y, h_last, c_last`, in ONNX's shapes.

    Args:
        weights: the layer's.
        time: steps of a sequence, fixed.
    """
    from onnx import helper

    size, hidden = weights.ih.shape[1], weights.hidden
    names = ["x", "ih", "hh", "bias", "", "h", "c"]
    node = helper.make_node("LSTM", names, ["y", "h_last", "c_last"], hidden_size=hidden)
    state = (1, 1, hidden)
    return model_bytes(
        [node],
        {"x": (time, 1, size), "h": state, "c": state},
        {"y": (time, 1, 1, hidden), "h_last": state, "c_last": state},
        lstm_parameters(weights),
    )


def lstm_parameters(weights: LstmWeights) -> dict[str, Array]:
    """The arrays of ONNX's LSTM: gates in the order i, o, f, g; two biases, of which one is 0."""
    ih, hh, bias = (_reordered(array) for array in (weights.ih, weights.hh, weights.bias))
    return {"ih": ih[None], "hh": hh[None], "bias": np.concatenate([bias, 0 * bias])[None]}


def model_bytes(
    nodes: list[Any],
    inputs: dict[str, tuple[Any, ...]],
    outputs: dict[str, tuple[Any, ...]],
    constants: dict[str, Array],
    takes_ids: bool = False,
) -> bytes:
    """A serialised model with inputs (float32 or ids) and float32 outputs of these shapes."""
    from onnx import TensorProto, helper, numpy_helper

    def values(shapes: dict[str, tuple[Any, ...]], kind: int = TensorProto.FLOAT) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]

    initializers = [
        numpy_helper.from_array(np.array(array, order="C"), name)
        for name, array in constants.items()
    ]
    read = values(inputs, TensorProto.INT64 if takes_ids else TensorProto.FLOAT)
    graph = helper.make_graph(nodes, "growprune", read, values(outputs), initializers)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(
        graph, opset_imports=[opset], ir_version=IR_VERSION
    ).SerializeToString()


def _reordered(array: Array) -> Array:
    i, f, g, o = np.split(array, 4)
    return np.concatenate([i, o, f, g])
