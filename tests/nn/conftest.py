from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from growprune.nn import HLSTM

GATES = "ifgo"


def gate_sum(layer, suffix, gate, x, h, scales):
    """One gate's network for one sequence at one step, from the equations."""
    widths = [(*w, layer.hidden_size) for w in layer.gate_widths]
    start = sum(w[0] for w in widths[:gate])
    rows = slice(start, start + widths[gate][0])
    z = layer.get_parameter(f"weight_ih{suffix}")[rows] @ x
    z = z + layer.get_parameter(f"weight_hh{suffix}")[rows] @ h
    if layer.bias:
        z = z + layer.get_parameter(f"bias_ih{suffix}")[rows]
        z = z + layer.get_parameter(f"bias_hh{suffix}")[rows]
    for stage in range(1, len(widths[gate])):
        a = leaky_relu(z, layer.negative_slope)
        if scales is not None:
            a = a * scales[gate][stage - 1]
        name = f"{GATES[gate]}_{stage}{suffix}"
        z = layer.get_parameter(f"weight_{name}") @ a
        if layer.bias:
            z = z + layer.get_parameter(f"bias_{name}")
    return z


def run_sequence(layer, suffix, xs, h, c, scales=None):
    """One layer and direction over one sequence: (time, features) to (time, hidden)."""
    outputs = []
    for t, x in enumerate(xs):
        at = None if scales is None else [[s[t] for s in gate] for gate in scales]
        z = [gate_sum(layer, suffix, gate, x, h, at) for gate in range(4)]
        i, f, o = torch.sigmoid(z[0]), torch.sigmoid(z[1]), torch.sigmoid(z[3])
        c = f * c + i * torch.tanh(z[2])
        h = o * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs), h, c


def slow_hlstm(
    layer: HLSTM,
    x: Tensor,
    lengths: list[int],
    hx: tuple[Tensor, Tensor] | None = None,
    scales: Callable | None = None,
):
    """The whole layer, time first, one sequence after the other and none of the padding.

    `scales(sequence)` gives the dropout factors of a single-layer, one-way network by gate and
    stage, each (time, width).
    """
    directions = ["", "_reverse"] if layer.bidirectional else [""]
    outputs = x.new_zeros(len(x), len(lengths), layer.hidden_size * len(directions))
    states = []
    for b, length in enumerate(lengths):
        xs, last = x[:length, b], []
        for level in range(layer.num_layers):
            both = []
            for d, direction in enumerate(directions):
                row = level * len(directions) + d
                zero = x.new_zeros(layer.hidden_size)
                h, c = (zero, zero) if hx is None else (hx[0][row, b], hx[1][row, b])
                way = xs.flip(0) if direction else xs
                drop = None if scales is None else scales(b)
                ys, h, c = run_sequence(layer, f"_l{level}{direction}", way, h, c, drop)
                both.append(ys.flip(0) if direction else ys)
                last.append((h, c))
            xs = torch.cat(both, -1)
        rows = torch.zeros(len(x), len(lengths), dtype=torch.bool)
        rows[:length, b] = True
        outputs = outputs.masked_scatter(rows.unsqueeze(-1), xs)
        states.append(last)
    h_n = torch.stack([torch.stack([h for h, _ in last]) for last in states], 1)
    c_n = torch.stack([torch.stack([c for _, c in last]) for last in states], 1)
    return outputs, h_n, c_n


@pytest.fixture
def reference() -> Callable:
    return slow_hlstm


@pytest.fixture
def randomized() -> Callable:
    """Redraw all parameters: zero biases would sit on the kink of the leaky ReLU."""

    def redraw(layer: HLSTM, std: float = 0.4) -> HLSTM:
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=std)
        return layer

    return redraw


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
