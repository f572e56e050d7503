"""The four gate networks of one layer: their widths, parameter names, shapes and first values.

Gates come in torch's order: input, forget, cell, output (letters i, f, g, o). The first stages of
the four gates are concatenated, so that one product serves them all and a layer without hidden
layers has exactly the parameters of `torch.nn.LSTM`. Later stages belong to one gate each.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

GATE_LETTERS = {"input": "i", "forget": "f", "cell": "g", "output": "o"}
FORGET = 1

GateHiddenSizes = Sequence[int] | Mapping[str, Sequence[int]]
Widths = tuple[tuple[int, ...], ...]


def parse_gate_hidden_sizes(sizes: GateHiddenSizes) -> Widths:
    """Hidden widths of the gates i, f, g, o, from one sequence for all or a mapping by gate name.

    Raises:
        ValueError: a gate name is unknown or a width is not a positive integer.
    """
    if not isinstance(sizes, Mapping):
        return (_checked_widths(sizes),) * len(GATE_LETTERS)
    unknown = sorted(set(sizes) - set(GATE_LETTERS))
    if unknown:
        raise ValueError(
            f"gate_hidden_sizes names unknown gates {unknown}; use {list(GATE_LETTERS)}"
        )
    return tuple(_checked_widths(sizes.get(gate, ())) for gate in GATE_LETTERS)


def first_rows(widths: Widths, hidden_size: int) -> list[int]:
    """Rows of each gate in the concatenated first stage."""
    return [(*gate, hidden_size)[0] for gate in widths]


def parameter_shapes(
    input_size: int, hidden_size: int, widths: Widths
) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of one layer and direction, by name without the layer's suffix."""
    rows = sum(first_rows(widths, hidden_size))
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (rows, input_size),
        "weight_hh": (rows, hidden_size),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    for letter, gate in zip(GATE_LETTERS.values(), widths, strict=True):
        sizes = (*gate, hidden_size)
        for stage in range(1, len(sizes)):
            shapes[f"weight_{letter}_{stage}"] = (sizes[stage], sizes[stage - 1])
            shapes[f"bias_{letter}_{stage}"] = (sizes[stage],)
    return shapes


@torch.no_grad()
def initialize(
    parameters: dict[str, nn.Parameter], hidden_size: int, widths: Widths, slope: float
) -> None:
    """Fill the parameters of one layer and direction (names without the layer's suffix).

    Without hidden layers: uniform in +-1/sqrt(hidden_size), as `torch.nn.LSTM` does. With them:
    He's uniform rule for leaky ReLU on what feeds a hidden layer, +-1/sqrt(fan-in) on what feeds
    a sigmoid or tanh, biases 0, and 1 for the forget gate so that the cell remembers from the
    start (Jozefowicz et al., 2015).
    """
    if not any(widths):
        for parameter in parameters.values():
            _uniform(parameter, 1 / math.sqrt(hidden_size))
        return
    for name, parameter in parameters.items():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
    fan_in = parameters["weight_ih"].shape[1] + hidden_size
    for name in ("weight_ih", "weight_hh"):
        gates = parameters[name].split(first_rows(widths, hidden_size))
        for gate, rows in zip(widths, gates, strict=True):
            _uniform(rows, _bound(fan_in, slope) if gate else 1 / math.sqrt(hidden_size))
    for letter, gate in zip(GATE_LETTERS.values(), widths, strict=True):
        for stage, fan_in in enumerate(gate, start=1):
            feeds_hidden = stage < len(gate)
            bound = _bound(fan_in, slope) if feeds_hidden else 1 / math.sqrt(fan_in)
            _uniform(parameters[f"weight_{letter}_{stage}"], bound)
    if "bias_ih" in parameters:
        nn.init.ones_(_forget_bias(parameters, hidden_size, widths))


def _checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    if isinstance(widths, str) or not isinstance(widths, Sequence):
        raise ValueError(f"gate_hidden_sizes must be a sequence of widths, got {widths!r}")
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"gate_hidden_sizes must hold positive integers, got {width!r}")
    return tuple(widths)


def _forget_bias(parameters: dict[str, nn.Parameter], hidden_size: int, widths: Widths) -> Tensor:
    """Bias right before the forget gate's sigmoid."""
    depth = len(widths[FORGET])
    if depth:
        return parameters[f"bias_f_{depth}"]
    return parameters["bias_ih"].split(first_rows(widths, hidden_size))[FORGET]


def _bound(fan_in: int, slope: float) -> float:
    return math.sqrt(6 / ((1 + slope**2) * fan_in))


def _uniform(values: Tensor, bound: float) -> None:
    nn.init.uniform_(values, -bound, bound)
