"""One layer in one direction over a packed batch, with its backward pass written out.

Rows are packed as `PackedSequence` packs them: sequences sorted by falling length, the rows of
one time step side by side, no padding. `batch_sizes[t]` is the number of sequences that reach
step t, so the sequences alive at a step are always the first rows of the state. A sequence's
state rests in its row while it is not alive, whichever way time runs: going forward it ends
early, going backward it begins late.

The formulas, for each gate k of i, f, g, o (a_k stands for one hidden layer; there may be more):

    a_k = dropout(leaky_relu(W_k [x_t ; h_{t-1}] + b_k))
    z_k = V_k a_k + d_k
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g = tanh(z_g)
    c_t = f * c_{t-1} + i * g
    h_t = o * tanh(c_t)

Only what needs the neighbouring step is inside the time loops. The products with the input come
before the forward loop; the weight gradients come after the backward loop, as large products.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import leaky_relu_

from growprune.nn._gates import GateGroup


@dataclass(frozen=True)
class Plan:
    """Everything about one pass that is not a tensor.

    Attributes:
        groups: the gates, grouped by equal hidden widths.
        batch_sizes: sequences alive at each step, never rising.
        reverse: run time backwards.
        slope: of the leaky ReLU below zero.
        keep: probability that dropout keeps a hidden activation; 1 for none.
        product_dtype: what matrix products are computed in; states and sums keep the weights'.
    """

    groups: tuple[GateGroup, ...]
    batch_sizes: list[int]
    reverse: bool
    slope: float
    keep: float
    product_dtype: torch.dtype

    @property
    def order(self) -> range:
        """Time steps in the order they are computed."""
        steps = range(len(self.batch_sizes))
        return steps[::-1] if self.reverse else steps


def recur(
    plan: Plan, x: Tensor, h: Tensor, c: Tensor, parameters: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the layer over a packed batch.

    Args:
        plan: the pass to make.
        x: inputs, (rows, input_size).
        h: first hidden state, (batch, hidden_size).
        c: first cell state, (batch, hidden_size).
        parameters: in the order of `growprune.nn._gates.parameter_shapes`, None for no bias.

    Returns:
        Outputs (rows, hidden_size), and the last hidden and cell state, (batch, hidden_size).
    """
    tensors = (x, h, c, *parameters)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Recurrence.apply(plan, *tensors)
    with torch.autocast(x.device.type, enabled=False):
        return _forward(plan, x, h, c, parameters, record=False)[0]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: Tensor, h: Tensor, c: Tensor, *parameters: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            results, tape = _forward(plan, x, h, c, parameters, record=True)
        ctx.plan, ctx.split = plan, 1 + len(parameters)
        ctx.save_for_backward(x, *parameters, *_flatten(tape))
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors[: ctx.split]
        tape = _unflatten(ctx.plan, ctx.saved_tensors[ctx.split :])
        _, *needed = ctx.needs_input_grad
        with torch.autocast(x.device.type, enabled=False):
            return None, *_backward(ctx.plan, x, parameters, tape, grads, needed)


class _Weights(NamedTuple):
    """Parameters as the loops want them: in the dtype of the products, later stages batched.

    Attributes:
        ih: (first-stage units, input_size).
        hh: (first-stage units, hidden_size).
        bias: both biases of the first stage together, (first-stage units,).
        later: for each group its later stages: weights (gates, out, in), biases (gates, 1, out).
    """

    ih: Tensor
    hh: Tensor
    bias: Tensor
    later: list[list[tuple[Tensor, Tensor]]]


class _Layers(NamedTuple):
    """A value for every unit of the gate networks: its activation, or its gradient.

    Attributes:
        first: first stage of all gates, (rows, first-stage units).
        later: for each group its further hidden layers, each (gates, rows, width).
        gates: i, f, g, o, (4, rows, hidden_size).
    """

    first: Tensor
    later: list[list[Tensor]]
    gates: Tensor

    def chains(self, groups: Sequence[GateGroup]) -> list[list[Tensor]]:
        """For each group its layers from the first stage to the gates, (gates, rows, width)."""
        return [
            [group.split(self.first), *later, self.gates[group.gates]]
            for group, later in zip(groups, self.later, strict=True)
        ]


class _Tape(NamedTuple):
    """What the backward pass needs of the forward pass.

    Attributes:
        h: hidden state each row started from, (rows, hidden_size).
        c: cell state each row started from, (rows, hidden_size).
        layers: the activations.
        scales: for each group what dropout multiplied its hidden layers by, (gates, rows, width)
            each; empty lists without dropout.
    """

    h: Tensor
    c: Tensor
    layers: _Layers
    scales: list[list[Tensor]]


def _flatten(tape: _Tape) -> list[Tensor]:
    first, later, gates = tape.layers
    return [tape.h, tape.c, first, gates, *itertools.chain(*later, *tape.scales)]


def _unflatten(plan: Plan, tensors: Sequence[Tensor]) -> _Tape:
    h, c, first, gates, *others = tensors
    rest = iter(others)
    later = [[next(rest) for _ in group.widths[1:]] for group in plan.groups]
    scales = [[next(rest) for _ in group.widths if plan.keep < 1] for group in plan.groups]
    return _Tape(h, c, _Layers(first, later, gates), scales)


def _prepare(plan: Plan, parameters: Sequence[Tensor | None]) -> _Weights:
    ih, hh, bias_ih, bias_hh = parameters[:4]
    assert ih is not None
    assert hh is not None
    bias = ih.new_zeros(len(ih)) if bias_ih is None or bias_hh is None else bias_ih + bias_hh
    rest = iter(parameters[4:])
    later = []
    for group in plan.groups:
        gates = [[(next(rest), next(rest)) for _ in group.widths] for _ in range(group.count)]
        later.append([_batch(stage, plan.product_dtype) for stage in zip(*gates, strict=True)])
    return _Weights(ih.to(plan.product_dtype), hh.to(plan.product_dtype), bias, later)


def _batch(stage: Sequence[Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Stack one stage of several gates: weights (gates, out, in), biases (gates, 1, out)."""
    weights = torch.stack([weight for weight, _ in stage])
    biases = [weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in stage]
    return weights.to(dtype), torch.stack(biases).unsqueeze(1)


def _forward(
    plan: Plan,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    parameters: Sequence[Tensor | None],
    *,
    record: bool,
) -> tuple[tuple[Tensor, Tensor, Tensor], _Tape]:
    """Outputs and last states, and the tape, which is filled only if `record` is set."""
    weights = _prepare(plan, parameters)
    # What no backward pass will read needs room for one step only, which all steps share.
    rows = len(x) if record or plan.keep < 1 else len(h)
    first = _affine(weights.bias, x, weights.ih.t(), out=h.new_empty(len(x), len(weights.ih)))
    later = [[first.new_empty(g.count, rows, w) for w in g.widths[1:]] for g in plan.groups]
    layers = _Layers(first, later, h.new_empty(4, rows, h.shape[1]))
    scales = _dropout_scales(plan, layers)
    tape = _Tape(h.new_empty(rows, h.shape[1]), h.new_empty(rows, h.shape[1]), layers, scales)
    h, c, outputs = h.clone(), c.clone(), h.new_empty(len(x), h.shape[1])
    _forward_loop(plan, weights, tape, h, c, outputs)
    return (outputs, h, c), tape


def _forward_loop(
    plan: Plan, weights: _Weights, tape: _Tape, h: Tensor, c: Tensor, outputs: Tensor
) -> None:
    """Walk through time, advancing the states h and c in place."""
    hh = weights.hh.t()
    later = [[(weight.mT, bias) for weight, bias in stages] for stages in weights.later]
    chains = _nested_steps(plan, tape.layers.chains(plan.groups))
    scales = _nested_steps(plan, tape.scales)
    gates, first = _steps(plan, tape.layers.gates), _steps(plan, tape.layers.first)
    h_before, c_before, out = (_steps(plan, rows) for rows in (tape.h, tape.c, outputs))
    tanh_c = torch.empty_like(c)
    for t in plan.order:
        n = plan.batch_sizes[t]
        h_t, c_t, tanh_t = h[:n], c[:n], tanh_c[:n]
        h_before[t].copy_(h_t)
        c_before[t].copy_(c_t)

        _affine(first[t], h_t, hh, out=first[t])
        for stages, chain, scale in zip(later, chains[t], scales[t], strict=True):
            _gate_networks(stages, chain, scale, plan.slope)
        i, f, g, o = gates[t].unbind()
        gates[t][:2].sigmoid_()  # i and f
        g.tanh_()
        o.sigmoid_()

        c_t.mul_(f).addcmul_(i, g)
        torch.tanh(c_t, out=tanh_t)
        torch.mul(o, tanh_t, out=h_t)
        out[t].copy_(h_t)


def _gate_networks(
    stages: Sequence[tuple[Tensor, Tensor]],
    chain: Sequence[Tensor],
    scales: Sequence[Tensor],
    slope: float,
) -> None:
    """From the first stage's sums to the gates' sums, for the gates of one group."""
    for stage, (weight, bias) in enumerate(stages):
        a = leaky_relu_(chain[stage], slope)
        if scales:
            a.mul_(scales[stage])
        _affine(bias, a, weight, out=chain[stage + 1])
    if not stages:
        chain[1].copy_(chain[0])


def _backward(
    plan: Plan,
    x: Tensor,
    parameters: Sequence[Tensor | None],
    tape: _Tape,
    grads: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of x, h, c and the parameters; None where not needed."""
    weights = _prepare(plan, parameters)
    dout, dh, dc = grads[0], grads[1].clone(), grads[2].clone()
    deltas, dc_dh = _derivatives(plan, tape)
    _backward_loop(plan, weights, deltas, dc_dh, tape.layers.gates[1], dout, dh, dc)

    need_x, _, _, need_ih, need_hh, need_bias, _, *need_later = needed
    dbias = deltas.first.sum(0) if need_bias else None
    return [
        _product(deltas.first, weights.ih).to(x.dtype) if need_x else None,
        dh,
        dc,
        _weight_gradient(plan, deltas.first, x) if need_ih else None,
        _weight_gradient(plan, deltas.first, tape.h) if need_hh else None,
        dbias,
        dbias,
        *_later_gradients(plan, deltas, tape.layers, need_later),
    ]


def _derivatives(plan: Plan, tape: _Tape) -> tuple[_Layers, Tensor]:
    """All that the backward loop multiplies gradients by, computed for all rows at once.

    Returns:
        The derivative of every layer by its own sum (for i, f and g times that of the cell, for
        o times that of h_t, by the gate), and that of h_t by c_t, (rows, hidden_size).
    """
    first, later, gates = tape.layers
    i, f, g, o = gates
    tanh_c = torch.tanh(torch.addcmul(f * tape.c, i, g))
    dgates = torch.stack(
        [g * i * (1 - i), tape.c * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)]
    )
    dlater = [[torch.empty_like(layer) for layer in group] for group in later]
    derivatives = _Layers(torch.empty_like(first), dlater, dgates)
    one, slope = first.new_ones(()), first.new_tensor(plan.slope)
    values, outs = tape.layers.chains(plan.groups), derivatives.chains(plan.groups)
    for group, a, da, scales in zip(plan.groups, values, outs, tape.scales, strict=True):
        for stage in range(len(group.widths)):
            torch.where(a[stage] > 0, one, slope, out=da[stage])
            if scales:
                da[stage].mul_(scales[stage])
    return derivatives, o * (1 - tanh_c * tanh_c)


def _backward_loop(
    plan: Plan,
    weights: _Weights,
    deltas: _Layers,
    dc_dh: Tensor,
    f: Tensor,
    dout: Tensor,
    dh: Tensor,
    dc: Tensor,
) -> None:
    """Walk back through time, turning derivatives into gradients in place.

    `deltas` arrives with the layers' derivatives and leaves with the gradients of their sums;
    `dh` and `dc` arrive with the gradients of the last states and leave with the first ones'.
    """
    chains = _nested_steps(plan, deltas.chains(plan.groups))
    dgates, dfirst = _steps(plan, deltas.gates), _steps(plan, deltas.first)
    f_steps, dc_dh_steps, dout_steps = (_steps(plan, rows) for rows in (f, dc_dh, dout))
    for t in reversed(plan.order):
        n = plan.batch_sizes[t]
        dh_t, dc_t = dh[:n], dc[:n]
        dh_t.add_(dout_steps[t])
        dc_t.addcmul_(dh_t, dc_dh_steps[t])
        dgates[t][:3].mul_(dc_t)  # i, f and g
        dgates[t][3].mul_(dh_t)  # o
        dc_t.mul_(f_steps[t])
        for stages, chain in zip(weights.later, chains[t], strict=True):
            _gate_networks_backward(stages, chain)
        dh_t.copy_(_product(dfirst[t], weights.hh))


def _gate_networks_backward(
    stages: Sequence[tuple[Tensor, Tensor]], chain: Sequence[Tensor]
) -> None:
    """From the gradients of the gates' sums to those of the first stage, for one group."""
    for stage, (weight, _) in reversed(list(enumerate(stages))):
        chain[stage].mul_(_product(chain[stage + 1], weight))
    if not stages:
        chain[0].copy_(chain[1])


def _later_gradients(
    plan: Plan, deltas: _Layers, values: _Layers, needed: Sequence[bool]
) -> Iterator[Tensor | None]:
    """Gradients of the later stages' weights and biases, in the order of the parameters."""
    flags = iter(needed)
    groups = zip(plan.groups, deltas.chains(plan.groups), values.chains(plan.groups), strict=True)
    for group, delta, value in groups:
        stages = range(len(group.widths))
        wanted = [[(next(flags), next(flags)) for _ in stages] for _ in range(group.count)]
        for gate, stage in itertools.product(range(group.count), stages):
            weight, bias = wanted[gate][stage]
            d = delta[stage + 1][gate]
            yield _weight_gradient(plan, d, value[stage][gate]) if weight else None
            yield d.sum(0) if bias else None


def _weight_gradient(plan: Plan, delta: Tensor, value: Tensor) -> Tensor:
    """Sum over all rows of delta's outer product with value: (out, in)."""
    product = delta.t().to(plan.product_dtype) @ value.to(plan.product_dtype)
    return product.to(delta.dtype)


def _dropout_scales(plan: Plan, layers: _Layers) -> list[list[Tensor]]:
    """Random factors 0 and 1/keep for every hidden activation; empty lists without dropout."""
    if plan.keep == 1:
        return [[] for _ in plan.groups]
    return [
        [torch.empty_like(layer).bernoulli_(plan.keep).div_(plan.keep) for layer in chain[:-1]]
        if group.widths
        else []
        for group, chain in zip(plan.groups, layers.chains(plan.groups), strict=True)
    ]


def _steps(plan: Plan, rows: Tensor) -> Sequence[Tensor]:
    """The rows of each time step; the same ones again and again if there is room for one only."""
    if rows.shape[-2] == sum(plan.batch_sizes):
        return rows.split(plan.batch_sizes, dim=-2)
    return [rows[..., :n, :] for n in plan.batch_sizes]


def _nested_steps(plan: Plan, groups: Sequence[Sequence[Tensor]]) -> list[list[list[Tensor]]]:
    """The same for the layers of every group: indexed by step, group, layer."""
    split = [[_steps(plan, layer) for layer in group] for group in groups]
    steps = range(len(plan.batch_sizes))
    return [[[layer[t] for layer in group] for group in split] for t in steps]


def _affine(bias: Tensor, x: Tensor, weight: Tensor, *, out: Tensor) -> Tensor:
    """Compute bias + x @ weight into `out`: the product in weight's dtype, the sum in out's."""
    if x.dtype == weight.dtype:
        add_product = torch.addmm if x.dim() == 2 else torch.baddbmm
        return add_product(bias, x, weight, out=out)
    return torch.add(bias, x.to(weight.dtype) @ weight, out=out)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Compute x @ weight in weight's dtype."""
    return x.to(weight.dtype) @ weight
