"""Torch layers as nodes of a packed network.

Values are `(batch, time, *features)`, whatever torch's order of axes; each function adds the
nodes of one layer to a builder and names the value they give. `path` is the layer's name in the
whole module: its nodes and weights are stored under it. It is empty for the module itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from growprune.export.builder import Builder
from growprune.export.layouts import Weight
from growprune.export.parameters import Parameters, as_weight, vector
from growprune.nn import HLSTM
from growprune.runtime.graph import GATES, stages

Padding = tuple[int, int]
Recurrent = nn.LSTM | nn.GRU | HLSTM


def linear(builder: Builder, parameters: Parameters, path: str, layer: nn.Linear, x: str) -> str:
    """The last axis of features through a `Linear`."""
    weight = parameters.weight(layer, "weight")
    bias = vector(layer.bias, layer.out_features)
    return builder.add(
        path, "linear", [x], {"weight": (within(path, "weight"), weight)}, {"bias": bias}
    )


def embedding(
    builder: Builder, parameters: Parameters, path: str, layer: nn.Embedding, x: str
) -> str:
    """Rows of an `Embedding` by ids."""
    if layer.max_norm is not None:
        raise ValueError(
            f"{path!r} cannot be packed: max_norm changes the table in use; leave it out"
        )
    weight = parameters.weight(layer, "weight")
    return builder.add(path, "embedding", [x], {"weight": (within(path, "weight"), weight)})


def convolution(
    builder: Builder,
    parameters: Parameters,
    path: str,
    layer: nn.Conv1d | nn.Conv2d,
    x: str,
    *,
    time_padding: Padding = (0, 0),
    time_axis: int = 0,
) -> str:
    """A convolution over `(batch, time, channels)` or `(batch, time, positions, channels)`.

    Args:
        builder: takes the node.
        parameters: the weights.
        path: the layer's name.
        layer: the layer.
        x: the value it reads.
        time_padding: zeros before and after, beside the layer's own.
        time_axis: which of a Conv2d's two axes is time.
    """
    if layer.padding_mode != "zeros":
        raise ValueError(
            f"{path!r} cannot be packed: padding_mode {layer.padding_mode!r} is not supported; "
            "use zeros"
        )
    order = [time_axis, 1 - time_axis] if len(layer.kernel_size) == 2 else [0]
    padding = _paddings(layer)
    padding = [padding[axis] for axis in order]
    padding[0] = (padding[0][0] + time_padding[0], padding[0][1] + time_padding[1])
    tensor, mask = parameters.tensor(layer, "weight")
    tensor, mask = (_without_groups(t, layer.groups) for t in (tensor, mask))
    # (out, channels, axes) to (out, time, positions, channels), as windows lie in memory.
    columns = [0, *(2 + axis for axis in order), 1]
    weight = as_weight(tensor.permute(columns), mask.permute(columns))
    return builder.add(
        path,
        "convolution",
        [x],
        {"weight": (within(path, "weight"), weight)},
        {"bias": vector(layer.bias, layer.out_channels)},
        kernel=[layer.kernel_size[axis] for axis in order],
        stride=[layer.stride[axis] for axis in order],
        dilation=[layer.dilation[axis] for axis in order],
        padding=[list(pair) for pair in padding],
    )


def batch_norm(builder: Builder, path: str, layer: nn.BatchNorm1d | nn.BatchNorm2d, x: str) -> str:
    """A batch norm of the last axis, by its running statistics."""
    if layer.running_mean is None or layer.running_var is None:
        raise ValueError(
            f"{path!r} cannot be packed: it has no running statistics; train it with "
            "track_running_stats=True"
        )
    size = layer.num_features
    scale = vector(layer.weight, size, 1.0) / np.sqrt(
        vector(layer.running_var, size).astype(np.float64) + layer.eps
    )
    shift = vector(layer.bias, size) - vector(layer.running_mean, size) * scale
    return builder.add(path, "affine", [x], vectors={"scale": scale, "shift": shift})


def layer_norm(builder: Builder, path: str, layer: nn.LayerNorm, x: str) -> str:
    """A layer norm of the last axis."""
    if len(layer.normalized_shape) != 1:
        raise ValueError(
            f"{path!r} cannot be packed: it normalises {len(layer.normalized_shape)} axes; "
            "one is supported"
        )
    size = layer.normalized_shape[0]
    vectors = {"weight": vector(layer.weight, size, 1.0), "bias": vector(layer.bias, size)}
    return builder.add(path, "layer_norm", [x], vectors=vectors, epsilon=layer.eps)


def recurrent(
    builder: Builder, parameters: Parameters, path: str, layer: Recurrent, x: str
) -> list[list[str]]:
    """An `LSTM`, `GRU` or `HLSTM`, stacked and in both directions if it is.

    Returns:
        The outputs `(batch, time, hidden)` of each layer's directions, forward first.
    """
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"{path!r} cannot be packed: proj_size is not supported; leave it out")
    outputs: list[list[str]] = []
    for number in range(layer.num_layers):
        if outputs:
            x = joined(builder, within(path, f"l{number - 1}_both"), outputs[-1])
        suffixes = [f"l{number}", f"l{number}_reverse"][: 1 + layer.bidirectional]
        outputs.append([_direction(builder, parameters, path, layer, s, x) for s in suffixes])
    return outputs


def within(path: str, name: str) -> str:
    """A name inside of a layer, whose path is empty if it is the whole module."""
    return f"{path}.{name}" if path else name


def joined(builder: Builder, name: str, directions: list[str]) -> str:
    """Both directions side by side, or the only one."""
    if len(directions) == 1:
        return directions[0]
    return builder.add(name, "concatenate", directions)


def activation(builder: Builder, path: str, layer: nn.Module, x: str) -> str:
    """An activation that works on each number by itself.

    Raises:
        ValueError: the layer is no such thing; as the last kind tried, it is not supported.
    """
    for kind, describe in _ACTIVATIONS.items():
        if isinstance(layer, kind):
            op, attributes = describe(layer)
            return builder.add(path, op, [x], **attributes)
    raise ValueError(
        f"{path!r} cannot be packed: {type(layer).__name__} is not supported; "
        "docs/packed-models.md lists what is"
    )


_ACTIVATIONS: dict[type[nn.Module], Callable[..., tuple[str, dict[str, Any]]]] = {
    nn.ReLU: lambda _: ("relu", {}),
    nn.LeakyReLU: lambda layer: ("leaky_relu", {"slope": float(layer.negative_slope)}),
    nn.Hardtanh: lambda layer: (  # and ReLU6
        "hardtanh",
        {"low": float(layer.min_val), "high": float(layer.max_val)},
    ),
    nn.Sigmoid: lambda _: ("sigmoid", {}),
    nn.Tanh: lambda _: ("tanh", {}),
    nn.SiLU: lambda _: ("silu", {}),
    nn.GELU: lambda layer: ("gelu", {"tanh": layer.approximate == "tanh"}),
}


def _paddings(layer: nn.Conv1d | nn.Conv2d) -> list[Padding]:
    """Zeros before and after on each axis."""
    axes = range(len(layer.kernel_size))
    if layer.padding == "valid":
        return [(0, 0) for _ in axes]
    if layer.padding == "same":
        reach = [(layer.kernel_size[axis] - 1) * layer.dilation[axis] for axis in axes]
        return [(total // 2, total - total // 2) for total in reach]
    return [(int(layer.padding[axis]), int(layer.padding[axis])) for axis in axes]


def _without_groups(tensor: torch.Tensor, groups: int) -> torch.Tensor:
    """A grouped convolution's tensor `(out, channels of a group, ...)` over all channels."""
    if groups == 1:
        return tensor
    rows, channels = len(tensor) // groups, tensor.shape[1]
    full = tensor.new_zeros(len(tensor), channels * groups, *tensor.shape[2:])
    for group in range(groups):
        own = slice(group * rows, (group + 1) * rows)
        full[own, group * channels : (group + 1) * channels] = tensor[own]
    return full


def _direction(
    builder: Builder, parameters: Parameters, path: str, layer: Recurrent, suffix: str, x: str
) -> str:
    """One layer in one direction."""
    if isinstance(layer, nn.GRU):
        return _gru(builder, parameters, path, layer, suffix, x)
    return _lstm(builder, parameters, path, layer, suffix, x)


def _lstm(
    builder: Builder, parameters: Parameters, path: str, layer: nn.LSTM | HLSTM, suffix: str, x: str
) -> str:
    widths = layer.gate_widths if isinstance(layer, HLSTM) else ((),) * len(GATES)
    depths = {"depths": [len(gate) for gate in widths]}
    later = {stage: f"weight_{stage}" for stage in stages(depths)}
    weights = _weights(parameters, path, layer, suffix, later)
    bias, hidden_bias = _biases(layer, suffix, len(weights["ih"][1].values))
    vectors = {"bias": bias + hidden_bias}
    for stage in later:
        later_bias = getattr(layer, f"bias_{stage}_{suffix}")
        vectors[f"bias_{stage}"] = vector(later_bias, len(weights[stage][1].values))
    return builder.add(
        within(path, suffix),
        "lstm",
        [x],
        weights,
        vectors,
        reverse=suffix.endswith("_reverse"),
        slope=layer.negative_slope if isinstance(layer, HLSTM) else 0.0,
        **depths,
    )


def _gru(
    builder: Builder, parameters: Parameters, path: str, layer: nn.GRU, suffix: str, x: str
) -> str:
    weights = _weights(parameters, path, layer, suffix, {})
    bias, hidden_bias = _biases(layer, suffix, 3 * layer.hidden_size)
    new = 2 * layer.hidden_size  # the new gate's hidden bias is gated, the others' only add up
    bias = np.concatenate([bias[:new] + hidden_bias[:new], bias[new:]])
    return builder.add(
        within(path, suffix),
        "gru",
        [x],
        weights,
        {"bias": bias, "bias_new": hidden_bias[new:]},
        reverse=suffix.endswith("_reverse"),
    )


def _weights(
    parameters: Parameters, path: str, layer: nn.Module, suffix: str, later: dict[str, str]
) -> dict[str, tuple[str, Weight]]:
    """Matrices of one layer and direction by role, with the names to store them by."""
    leaves = {role: f"{leaf}_{suffix}" for role, leaf in later.items()}
    leaves = {"ih": f"weight_ih_{suffix}", "hh": f"weight_hh_{suffix}"} | leaves
    return {
        role: (within(path, leaf), parameters.weight(layer, leaf)) for role, leaf in leaves.items()
    }


def _biases(layer: nn.Module, suffix: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Input and hidden bias."""
    first, second = (getattr(layer, f"bias_{part}_{suffix}", None) for part in ("ih", "hh"))
    return vector(first, size), vector(second, size)
