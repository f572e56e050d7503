"""A packed network in torch, with its zeros filled in: the same numbers, for comparison.

torch is imported when a network is built.
"""

from collections.abc import Callable, Mapping
from typing import Any

from growprune.bench.lstm import Array
from growprune.bench.onnx_network import whole
from growprune.runtime import PackedModel
from growprune.runtime.checks import checked_shapes
from growprune.runtime.graph import Node, Shape

_GATES = {"input": "i", "forget": "f", "cell": "g", "output": "o"}


def network(packed: PackedModel) -> Callable[[Array], Array]:
    """A function of arrays `(batch, time, *features)` that computes the network in torch."""
    import torch

    shapes = checked_shapes(packed)
    functions = [_function(packed, node, shapes) for node in packed.nodes]

    def run(x: Array) -> Array:
        values = {"input": torch.from_numpy(x)}
        for node, function in zip(packed.nodes, functions, strict=True):
            values[node.name] = function(*(values[name] for name in node.inputs))
        return values[packed.output].numpy()

    return run


def _function(packed: PackedModel, node: Node, shapes: Mapping[str, Shape]) -> Callable[..., Any]:
    import torch
    from torch.nn import functional as F

    parameters = {
        name: torch.from_numpy(
            packed.vectors[stored] if stored in packed.vectors else whole(packed.matrices[stored])
        )
        for name, stored in node.parameters.items()
    }
    settings = node.attributes
    weight: Any = parameters.get("weight")
    bias: Any = parameters.get("bias")
    axes = len(shapes[node.inputs[0]].features)
    functions: dict[str, Callable[[], Callable[..., Any]]] = {
        "linear": lambda: lambda x: F.linear(x, weight, bias),
        "embedding": lambda: lambda x: F.embedding(x, weight),
        "affine": lambda: lambda x: torch.addcmul(parameters["shift"], x, parameters["scale"]),
        "layer_norm": lambda: (
            lambda x: F.layer_norm(x, weight.shape, weight, bias, settings["epsilon"])
        ),
        "convolution": lambda: _convolution(node, parameters, shapes),
        "lstm": lambda: _recurrent(_lstm(node, parameters), settings["reverse"]),
        "gru": lambda: _recurrent(_gru(parameters), settings["reverse"]),
        "relu": lambda: F.relu,
        "leaky_relu": lambda: lambda x: F.leaky_relu(x, settings["slope"]),
        "hardtanh": lambda: lambda x: F.hardtanh(x, settings["low"], settings["high"]),
        "gelu": lambda: lambda x: F.gelu(x, approximate="tanh" if settings["tanh"] else "none"),
        "sigmoid": lambda: torch.sigmoid,
        "tanh": lambda: torch.tanh,
        "silu": lambda: F.silu,
        "softmax": lambda: lambda x: F.softmax(x, -1),
        "log_softmax": lambda: lambda x: F.log_softmax(x, -1),
        "add": lambda: lambda *inputs: sum(inputs[1:], inputs[0]),
        "concatenate": lambda: lambda *inputs: torch.cat(inputs, -1),
        "first": lambda: lambda x: x[:, 0],
        "last": lambda: lambda x: x[:, -1],
        "mean": lambda: lambda x: x.mean(1),
        "reshape": lambda: lambda x: x.reshape(*x.shape[: x.ndim - axes], *settings["features"]),
        "permute": lambda: lambda x: _permuted(x, settings["order"]),
    }
    return functions[node.op]()


def _convolution(
    node: Node, parameters: Mapping[str, Any], shapes: Mapping[str, Shape]
) -> Callable[..., Any]:
    """Channels are the last axis here and the second one in torch."""
    from torch.nn import functional as F

    kernel = node.attributes["kernel"]
    channels = shapes[node.inputs[0]].features[-1]
    weight = parameters["weight"].reshape(-1, *kernel, channels).movedim(-1, 1).contiguous()
    convolve: Any = (F.conv1d, F.conv2d)[len(kernel) - 1]
    padding = [side for axis in reversed(node.attributes["padding"]) for side in axis]
    settings = {"stride": node.attributes["stride"], "dilation": node.attributes["dilation"]}

    def run(x: Any) -> Any:
        padded = F.pad(x.movedim(-1, 1), padding)
        return convolve(padded, weight, parameters["bias"], **settings).movedim(1, -1)

    return run


def _lstm(node: Node, parameters: Mapping[str, Any]) -> Any:
    import torch

    hidden = parameters["hh"].shape[1]
    state = {
        "weight_ih_l0": parameters["ih"],
        "weight_hh_l0": parameters["hh"],
        "bias_ih_l0": parameters["bias"],
        "bias_hh_l0": torch.zeros_like(parameters["bias"]),
    }
    if not any(node.attributes["depths"]):
        layer: torch.nn.Module = torch.nn.LSTM(parameters["ih"].shape[1], hidden, batch_first=True)
    else:
        from growprune.nn import HLSTM

        sizes = {
            name: [parameters[f"{gate}_{stage}"].shape[1] for stage in range(1, depth + 1)]
            for (name, gate), depth in zip(_GATES.items(), node.attributes["depths"], strict=True)
        }
        layer = HLSTM(
            parameters["ih"].shape[1],
            hidden,
            batch_first=True,
            gate_hidden_sizes=sizes,
            negative_slope=node.attributes["slope"],
        )
        for name in [name for name in parameters if name[:2] in ("i_", "f_", "g_", "o_")]:
            state[f"weight_{name}_l0"] = parameters[name]
            state[f"bias_{name}_l0"] = parameters[f"bias_{name}"]
    layer.load_state_dict(state)
    return layer.eval().requires_grad_(False)


def _gru(parameters: Mapping[str, Any]) -> Any:
    import torch

    rows, hidden = parameters["hh"].shape
    layer = torch.nn.GRU(parameters["ih"].shape[1], hidden, batch_first=True)
    layer.load_state_dict(
        {
            "weight_ih_l0": parameters["ih"],
            "weight_hh_l0": parameters["hh"],
            "bias_ih_l0": parameters["bias"],
            "bias_hh_l0": torch.cat([torch.zeros(rows - hidden), parameters["bias_new"]]),
        }
    )
    return layer.eval().requires_grad_(False)


def _recurrent(layer: Any, reverse: bool) -> Callable[[Any], Any]:
    if reverse:
        return lambda x: layer(x.flip(1))[0].flip(1)
    return lambda x: layer(x)[0]


def _permuted(x: Any, order: list[int]) -> Any:
    ahead = x.ndim - len(order)
    return x.permute(*range(ahead), *(ahead + axis for axis in order))
