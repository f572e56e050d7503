"""One layer over a packed batch, with its backward pass written out.

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

from growprune.native.training import dropout_kept, forced_engine
from growprune.nn import _native
from growprune.nn._gates import Widths, first_rows
from growprune.nn._products import linear

INPUT, FORGET, CELL, OUTPUT = range(4)
SQUASH = (torch.sigmoid, torch.sigmoid, torch.tanh, torch.sigmoid)
leaky_relu = torch.ops.aten.leaky_relu.out
leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input
sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


Results = tuple[Tensor, Tensor, Tensor]
"""Outputs (rows, hidden_size), and the last hidden and cell state, (batch, hidden_size)."""


@dataclass(frozen=True)
class Plan:
    """Everything about one pass that is not a tensor.

    Attributes:
        widths: hidden widths of each gate.
        batch_sizes: sequences alive at each step, never rising.
        reverse: run time backwards.
        slope: of the leaky ReLU below zero.
        keep: probability that dropout keeps a hidden activation; 1 for none.
        product_dtype: what matrix products are computed in; the rest keeps the weights' type.
    """

    widths: Widths
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


class Direction(NamedTuple):
    """One direction of a layer, to be run over the same packed batch as the others.

    Attributes:
        plan: the pass to make.
        h: first hidden state, (batch, hidden_size).
        c: first cell state, (batch, hidden_size).
        parameters: in the order of `growprune.nn._gates.parameter_shapes`, None for no bias.
    """

    plan: Plan
    h: Tensor
    c: Tensor
    parameters: Sequence[Tensor | None]

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """States and parameters."""
        return self.h, self.c, *self.parameters


def recur(x: Tensor, directions: Sequence[Direction]) -> list[Results]:
    """Run a layer over a packed batch.

    Args:
        x: inputs, (rows, input_size).
        directions: of the layer.

    Returns:
        For each direction its outputs (rows, hidden_size), and the last hidden and cell state,
        (batch, hidden_size).
    """
    parameters = list(itertools.chain(*(one.parameters for one in directions)))
    if not _native.usable(x, parameters, directions[0].plan.product_dtype):
        return [_recur_by_itself(x, one) for one in directions]
    tensors = list(itertools.chain(*(one.tensors for one in directions)))
    if _differentiated(x, *tensors):
        plans = [one.plan for one in directions]
        return _dealt(_Recurrence.apply(plans, x, *tensors), len(plans))
    with torch.autocast("cpu", enabled=False):
        return [results for results, _ in _native_forward(x, directions, record=False)[1]]


def _recur_by_itself(x: Tensor, direction: Direction) -> Results:
    """One direction after the other, on a GPU's kernels or else on torch's operations."""
    plan, h, c, parameters = direction
    on_gpu = _fits_gpu(x, direction)
    if _differentiated(x, *direction.tensors):
        function = _RecurrenceOnGpu if on_gpu else _RecurrenceByTorch
        return function.apply(plan, x, *direction.tensors)
    with torch.autocast(x.device.type, enabled=False):
        if on_gpu:
            return _forward_on_gpu(plan, x, h, c, parameters, record=False)[0]
        return _forward(plan, x, h, c, _prepare(plan, parameters), record=False)[0]


def _fits_gpu(x: Tensor, direction: Direction) -> bool:
    plan, tensors = direction.plan, direction.tensors
    kernels = _gpu_kernels(x.device.type)
    return kernels is not None and kernels.fits(plan.widths, plan.product_dtype, tensors)


def _gpu_kernels(device: str) -> Any:
    """The module of the kernels for a kind of device, or None: torch then runs step by step."""
    if device != "cuda" or forced_engine() == "torch":
        return None
    try:
        from growprune.nn import _triton
    except ImportError:  # not every build of torch brings Triton along
        return None
    return _triton


def _forward_on_gpu(
    plan: Plan,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    parameters: Sequence[Tensor | None],
    *,
    record: bool,
) -> tuple[Results, tuple[Tensor | None, ...]]:
    kernels = _gpu_kernels(x.device.type)
    scales = _dropout_scales(plan, h)
    return kernels.forward(
        x,
        h,
        c,
        kernels.Weights.of(parameters, plan.product_dtype),
        torch.stack([gate for [gate] in scales]) if plan.keep < 1 else None,
        plan.batch_sizes,
        reverse=plan.reverse,
        slope=plan.slope,
        record=record,
    )


class _RecurrenceOnGpu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: Tensor, h: Tensor, c: Tensor, *parameters: Tensor | None
    ) -> Results:
        ctx.plan, ctx.split, ctx.x_dtype = plan, len(parameters), x.dtype
        with torch.autocast(x.device.type, enabled=False):
            results, tape = _forward_on_gpu(plan, x, h, c, parameters, record=True)
        ctx.save_for_backward(*parameters, *tape)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, saved = ctx.plan, ctx.saved_tensors
        kernels = _gpu_kernels(grads[0].device.type)
        with torch.autocast(grads[0].device.type, enabled=False):
            return None, *kernels.backward(
                kernels.Tape(*saved[ctx.split :]),
                kernels.Weights.of(saved[: ctx.split], plan.product_dtype),
                grads,
                plan.batch_sizes,
                reverse=plan.reverse,
                slope=plan.slope,
                x_dtype=ctx.x_dtype,
                need_x=ctx.needs_input_grad[1],
            )


def _differentiated(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def product_dtype(weight: Tensor) -> torch.dtype:
    """What matrix products run in: autocast's type if it is on, which leaves float64 alone."""
    device = weight.device.type
    if weight.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return weight.dtype
    return torch.get_autocast_dtype(device)


class _Recurrence(torch.autograd.Function):
    """All directions of a layer, since autograd would come to them one after the other."""

    @staticmethod
    def forward(
        ctx: Any, plans: Sequence[Plan], x: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        directions = [
            Direction(plan, h, c, parameters)
            for plan, (h, c, *parameters) in zip(plans, _dealt(tensors, len(plans)), strict=True)
        ]
        with torch.autocast("cpu", enabled=False):
            ctx.layer, made = _native_forward(x, directions, record=True)
        parameters = list(itertools.chain(*(one.parameters for one in directions)))
        lanes = itertools.chain(*(tape.flatten() for _, tape in made))
        ctx.plans, ctx.split = plans, len(parameters)
        ctx.save_for_backward(*parameters, *lanes)
        return tuple(itertools.chain(*(results for results, _ in made)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.plans)
        lanes = _dealt(ctx.saved_tensors[ctx.split :], count)
        tapes = [_native.Tape.unflatten(ctx.plans[0].widths, one) for one in lanes]
        _, need_x, *needed = ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):
            dx, gradients = ctx.layer.backward(
                tapes, _dealt(grads, count), need_x, _dealt(needed, count)
            )
        return None, dx, *itertools.chain(*gradients)


def _native_forward(
    x: Tensor, directions: Sequence[Direction], *, record: bool
) -> tuple[_native.Layer, list[tuple[Results, _native.Tape]]]:
    """The layer on the kernels, and for each direction its results and tape."""
    layer = _native.Layer([_native_pass(one.plan, one.parameters) for one in directions])
    states = [(one.h, one.c, _native_dropout(one.plan)) for one in directions]
    return layer, layer.forward(x, states, record=record)


def _dealt(things: Sequence[Any], count: int) -> list[Any]:
    """What all directions have, one after the other, as sequences of each."""
    each = len(things) // count
    return [things[i * each : (i + 1) * each] for i in range(count)]


class _RecurrenceByTorch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: Tensor, h: Tensor, c: Tensor, *parameters: Tensor | None
    ) -> Results:
        ctx.plan, ctx.split = plan, len(parameters)
        with torch.autocast(x.device.type, enabled=False):
            results, tape = _forward(plan, x, h, c, _prepare(plan, parameters), record=True)
        ctx.save_for_backward(*parameters, x, *_flatten(tape))
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parameters, (x, *saved) = ctx.saved_tensors[: ctx.split], ctx.saved_tensors[ctx.split :]
        _, *needed = ctx.needs_input_grad
        tape = _unflatten(ctx.plan, saved)
        weights = _prepare(ctx.plan, parameters)
        with torch.autocast(x.device.type, enabled=False):
            return None, *_backward(ctx.plan, x, weights, tape, grads, needed)


class _Weights(NamedTuple):
    """Parameters as the loops want them: weights in the dtype of the products.

    Attributes:
        ih: (first-stage units, input_size).
        hh: (first-stage units, hidden_size).
        bias: both biases of the first stage together, (first-stage units,).
        later: for each gate its later stages: weight (out, in) and bias (out,).
    """

    ih: Tensor
    hh: Tensor
    bias: Tensor | None
    later: list[list[tuple[Tensor, Tensor | None]]]


class _Tape(NamedTuple):
    """What the backward pass needs of the forward pass.

    Attributes:
        h: hidden state each row started from, (rows, hidden_size).
        c: cell state each row started from, (rows, hidden_size).
        tanh_c: tanh of the cell state each row came to, (rows, hidden_size).
        gates: i, f, g, o, (4, rows, hidden_size).
        hidden: for each gate the activations of its hidden layers, (rows, width) each.
        scales: for each gate what dropout multiplied them by; empty lists without dropout.
    """

    h: Tensor
    c: Tensor
    tanh_c: Tensor
    gates: Tensor
    hidden: list[list[Tensor]]
    scales: list[list[Tensor]]


def _prepare(plan: Plan, parameters: Sequence[Tensor | None]) -> _Weights:
    ih, hh, bias_ih, bias_hh, *others = parameters
    assert ih is not None
    assert hh is not None
    bias = None if bias_ih is None or bias_hh is None else bias_ih + bias_hh
    rest = iter(others)
    later = [[(_cast(plan, next(rest)), next(rest)) for _ in gate] for gate in plan.widths]
    return _Weights(_cast(plan, ih), _cast(plan, hh), bias, later)


def _cast(plan: Plan, weight: Tensor | None) -> Tensor:
    assert weight is not None
    return weight.to(plan.product_dtype)


def _flatten(tape: _Tape) -> list[Tensor]:
    return [tape.h, tape.c, tape.tanh_c, tape.gates, *itertools.chain(*tape.hidden, *tape.scales)]


def _unflatten(plan: Plan, tensors: Sequence[Tensor]) -> _Tape:
    h, c, tanh_c, gates, *others = tensors
    rest = iter(others)
    hidden = [[next(rest) for _ in gate] for gate in plan.widths]
    scales = [[next(rest) for _ in gate if plan.keep < 1] for gate in plan.widths]
    return _Tape(h, c, tanh_c, gates, hidden, scales)


def _forward(
    plan: Plan, x: Tensor, h: Tensor, c: Tensor, weights: _Weights, *, record: bool
) -> tuple[Results, _Tape]:
    """Outputs and last states, and the tape, which is filled only if `record` is set."""
    # What no backward pass will read needs room for one step only, which all steps share.
    rows = len(x) if record else len(h)
    hidden = [[h.new_empty(rows, width) for width in gate] for gate in plan.widths]
    scales = _dropout_scales(plan, h)
    h_before, c_before, tanh_c = h.new_empty(3, rows, h.shape[1])
    gates = h.new_empty(4, rows, h.shape[1])
    tape = _Tape(h_before, c_before, tanh_c, gates, hidden, scales)
    first = linear(x.to(h.dtype).contiguous(), weights.ih, weights.bias)
    h, c, outputs = h.clone(), c.clone(), h.new_empty(len(x), h.shape[1])
    _forward_loop(plan, weights, tape, first, h, c, outputs)
    return (outputs, h, c), tape


def _forward_loop(
    plan: Plan,
    weights: _Weights,
    tape: _Tape,
    first: Tensor,
    h: Tensor,
    c: Tensor,
    outputs: Tensor,
) -> None:
    """Walk through time, advancing the states h and c in place.

    `first` arrives with what the input adds to the first stage, (rows, first-stage units).
    """
    hh = _fast(weights.hh)
    later = [[(_fast(weight), bias) for weight, bias in stages] for stages in weights.later]
    hidden, scales = _nested_steps(plan, tape.hidden), _nested_steps(plan, tape.scales)
    gates = list(zip(*(_steps(plan, gate) for gate in tape.gates), strict=True))
    h_before, c_before, tanh_c = (_steps(plan, rows) for rows in tape[:3])
    sums, out = _steps(plan, first), _steps(plan, outputs)
    gate_rows = first_rows(plan.widths, h.shape[1])
    for t in plan.order:
        n = plan.batch_sizes[t]
        h_t, c_t = h[:n], c[:n]
        h_before[t].copy_(h_t)
        c_before[t].copy_(c_t)

        starts = sums[t].add_(linear(h_t, hh)).split(gate_rows, dim=1)
        for k, squash in enumerate(SQUASH):
            z = _gate_network(plan, starts[k], later[k], hidden[t][k], scales[t][k])
            squash(z, out=gates[t][k])
        i, f, g, o = gates[t]

        c_t.mul_(f).addcmul_(i, g)
        torch.mul(o, torch.tanh(c_t, out=tanh_c[t]), out=h_t)
        out[t].copy_(h_t)


def _gate_network(
    plan: Plan,
    z: Tensor,
    stages: Sequence[tuple[Tensor, Tensor | None]],
    hidden: Sequence[Tensor],
    scales: Sequence[Tensor],
) -> Tensor:
    """From the sums of a gate's first stage to those of its last, noting the activations."""
    for stage, (weight, bias) in enumerate(stages):
        a = leaky_relu(z, plan.slope, out=hidden[stage])
        if scales:
            a.mul_(scales[stage])
        z = linear(a, weight, bias)
    return z


def _backward(
    plan: Plan,
    x: Tensor,
    weights: _Weights,
    tape: _Tape,
    grads: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of x, h, c and the parameters; None where not needed."""
    dout, dh, dc = grads[0], grads[1].clone(), grads[2].clone()
    deltas, dc_dh = _delta_buffers(plan, tape)
    _backward_loop(plan, weights, tape, deltas, dc_dh, dout, dh, dc)

    need_x, _, _, need_ih, need_hh, *need_biases = needed[:7]
    dbias = deltas.first.sum(0) if any(need_biases) else None
    first = deltas.first.t().contiguous()  # once, for two products that would each copy it
    return [
        linear(deltas.first, weights.ih.t()).to(x.dtype) if need_x else None,
        dh,
        dc,
        _weight_gradient(plan, first, x.to(dh.dtype).contiguous()) if need_ih else None,
        _weight_gradient(plan, first, tape.h) if need_hh else None,
        *(dbias if need else None for need in need_biases),
        *_later_gradients(plan, deltas, tape, needed[7:]),
    ]


class _Deltas(NamedTuple):
    """Gradients of the sums before each unit's nonlinearity.

    Attributes:
        first: first stage of all gates, (rows, first-stage units).
        stages: for each gate its stages from the first (a view of `first`) to the gate itself,
            (rows, width) each.
        gates: the last stages together, (4, rows, hidden_size).
    """

    first: Tensor
    stages: list[list[Tensor]]
    gates: Tensor


def _delta_buffers(plan: Plan, tape: _Tape) -> tuple[_Deltas, Tensor]:
    """Buffers of the gradients, the gates' filled with what the loop multiplies into them.

    Returns:
        The buffers: for i, f, g the derivative of the cell by the gate's sum, for o that of h_t.
        Then the derivative of h_t by c_t, (rows, hidden_size).
    """
    i, f, g, o = tape.gates
    gates = torch.empty_like(tape.gates)
    sigmoid_backward(g, i, grad_input=gates[INPUT])
    sigmoid_backward(tape.c, f, grad_input=gates[FORGET])
    tanh_backward(i, g, grad_input=gates[CELL])
    sigmoid_backward(tape.tanh_c, o, grad_input=gates[OUTPUT])
    dc_dh = torch.empty_like(o)
    tanh_backward(o, tape.tanh_c, grad_input=dc_dh)

    starts = first_rows(plan.widths, tape.h.shape[1])
    first = tape.h.new_empty(len(tape.h), sum(starts))
    stages = [
        [start, *(torch.empty_like(a) for a in hidden[1:]), gate]
        for start, hidden, gate in zip(first.split(starts, 1), tape.hidden, gates, strict=True)
    ]
    return _Deltas(first, stages, gates), dc_dh


def _backward_loop(
    plan: Plan,
    weights: _Weights,
    tape: _Tape,
    deltas: _Deltas,
    dc_dh: Tensor,
    dout: Tensor,
    dh: Tensor,
    dc: Tensor,
) -> None:
    """Walk back through time, filling `deltas`.

    `dh` and `dc` arrive with the gradients of the last states and leave with the first ones'.
    """
    hh = weights.hh.t()
    later = [[weight.t() for weight, _ in stages] for stages in weights.later]
    dstages, dfirst = _nested_steps(plan, deltas.stages), _steps(plan, deltas.first)
    hidden, scales = _nested_steps(plan, tape.hidden), _nested_steps(plan, tape.scales)
    dcell, doutput = _steps(plan, deltas.gates[:OUTPUT]), _steps(plan, deltas.gates[OUTPUT])
    f, dc_by_dh, dout_steps = (_steps(plan, rows) for rows in (tape.gates[FORGET], dc_dh, dout))
    for t in reversed(plan.order):
        n = plan.batch_sizes[t]
        dh_t, dc_t = dh[:n], dc[:n]
        dh_t.add_(dout_steps[t])
        dc_t.addcmul_(dh_t, dc_by_dh[t])
        dcell[t].mul_(dc_t)
        doutput[t].mul_(dh_t)
        dc_t.mul_(f[t])
        for k, gate_weights in enumerate(later):
            _gate_network_backward(plan, dstages[t][k], gate_weights, hidden[t][k], scales[t][k])
        dh_t.copy_(linear(dfirst[t], hh))


def _gate_network_backward(
    plan: Plan,
    deltas: Sequence[Tensor],
    weights: Sequence[Tensor],
    hidden: Sequence[Tensor],
    scales: Sequence[Tensor],
) -> None:
    """From the gradients of a gate's sums to those of its first stage."""
    if not weights:
        deltas[0].copy_(deltas[1])
    for stage in reversed(range(len(weights))):
        da = linear(deltas[stage + 1], weights[stage])
        if scales:
            da.mul_(scales[stage])
        # Dropout leaves the sign of an activation, or 0 where the gradient is 0 already.
        leaky_relu_backward(da, hidden[stage], plan.slope, True, grad_input=deltas[stage])


def _later_gradients(
    plan: Plan, deltas: _Deltas, tape: _Tape, needed: Sequence[bool]
) -> Iterator[Tensor | None]:
    """Gradients of the later stages' weights and biases, in the order of the parameters."""
    flags = iter(needed)
    for stages, hidden in zip(deltas.stages, tape.hidden, strict=True):
        for delta, value in zip(stages[1:], hidden, strict=False):
            yield _weight_gradient(plan, delta.t(), value) if next(flags) else None
            yield delta.sum(0) if next(flags) else None


def _weight_gradient(plan: Plan, delta: Tensor, value: Tensor) -> Tensor:
    """Sum over all rows of delta's outer product with value, from (units, rows) and (rows, in)."""
    return linear(delta, value.t().to(plan.product_dtype))


def _native_pass(plan: Plan, parameters: Sequence[Tensor | None]) -> _native.Pass:
    rounded = _native.rounded(plan.product_dtype)
    return _native.Pass(
        plan.widths, plan.batch_sizes, plan.reverse, plan.slope, parameters, rounded
    )


def _native_dropout(plan: Plan) -> _native.Dropout | None:
    if plan.keep == 1:
        return None
    seeds = iter(_dropout_seeds(plan))
    return _native.Dropout(plan.keep, [[next(seeds) for _ in gate] for gate in plan.widths])


def _dropout_seeds(plan: Plan) -> list[int]:
    """A seed for every gate's every hidden layer, drawn from torch's generator."""
    return torch.empty(sum(map(len, plan.widths)), dtype=torch.int64).random_().tolist()


def _dropout_scales(plan: Plan, like: Tensor) -> list[list[Tensor]]:
    """Dropout's factors for each gate's hidden layers, (rows, width); empty lists without dropout.

    On a CPU they are those that the compiled kernels draw.
    """
    if plan.keep == 1:
        return [[] for _ in plan.widths]
    rows = sum(plan.batch_sizes)
    if like.device.type == "cpu":
        draws = iter(_dropout_seeds(plan))
        kept = [
            [torch.from_numpy(dropout_kept(rows, width, plan.keep, next(draws))) for width in gate]
            for gate in plan.widths
        ]
    else:
        kept = [
            [torch.rand(rows, width, device=like.device) < plan.keep for width in gate]
            for gate in plan.widths
        ]
    return [[layer.to(like.dtype).div_(plan.keep) for layer in gate] for gate in kept]


def _steps(plan: Plan, rows: Tensor) -> Sequence[Tensor]:
    """The rows of each time step; the same ones again and again if there is room for one only."""
    if rows.shape[-2] == sum(plan.batch_sizes):
        return rows.split(plan.batch_sizes, dim=-2)
    return [rows[..., :n, :] for n in plan.batch_sizes]


def _nested_steps(plan: Plan, gates: Sequence[Sequence[Tensor]]) -> list[list[list[Tensor]]]:
    """The same for layers of each gate: indexed by step, gate, layer."""
    split = [[_steps(plan, layer) for layer in gate] for gate in gates]
    steps = range(len(plan.batch_sizes))
    return [[[layer[t] for layer in gate] for gate in split] for t in steps]


def _fast(weight: Tensor) -> Tensor:
    """The same matrix stored by columns, which makes small products faster."""
    return weight.t().contiguous().t()
