"""Runs `torch.nn.LSTM` on the passes of `HLSTM`, of which it is the case without hidden layers.

torch multiplies dormant connections as zeros. `leave_out_dormant` lets an `nn.LSTM` choose in each
call: our passes where few enough of its connections are active, torch's own everywhere else.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from growprune.nn import _native
from growprune.nn._gates import GATE_LETTERS
from growprune.nn._layers import State, run_layers, state_shape
from growprune.nn._recurrence import Direction, Plan, product_dtype

PAYS_BELOW = 0.9
"""Time of its products, all connections being 1, under which our pass is faster than torch's over a
padded batch."""
PAYS_BELOW_PACKED = 2.5
"""The same for a `PackedSequence`, for which torch has no fused pass."""

_NO_HIDDEN_LAYERS = ((),) * len(GATE_LETTERS)
_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def leave_out_dormant(lstm: nn.LSTM) -> None:
    """Let `lstm` leave out dormant connections from now on, in every call where that pays.

    It stays an `nn.LSTM` with the same parameters and, up to the rounding of float32, the same
    results, which can be differentiated once where our passes run. Without a valid note of its
    active connections (`growprune.native.training`) it is on torch's pass: so are its copies and
    what is loaded from a file. `del lstm.forward` undoes this; `torch.jit.script` needs it undone.

    An `nn.LSTM` whose class or instance has another `forward` is left alone.
    """
    if getattr(lstm.forward, "__func__", None) is nn.LSTM.forward:
        # A bound method is copied along with its module, and pickled as the class's own.
        lstm.forward = MethodType(forward, lstm)  # type: ignore[method-assign]


def forward(
    lstm: nn.LSTM,
    input: Tensor | PackedSequence,  # noqa: A002 - as torch.nn.LSTM names it
    hx: State | None = None,
) -> tuple[Any, State]:
    """Run `lstm` on the pass that is faster; arguments and results are those of `nn.LSTM`."""
    # Who takes the calls down for another engine would not see what our kernels do.
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return nn.LSTM.forward(lstm, input, hx)
    return _run_faster(lstm, input, hx)


@torch.compiler.disable
def _run_faster(
    lstm: nn.LSTM, batch: Tensor | PackedSequence, hx: State | None
) -> tuple[Any, State]:
    run = native_forward if _pays(lstm, batch) else nn.LSTM.forward
    return run(lstm, batch, hx)


def native_forward(
    lstm: nn.LSTM,
    input: Tensor | PackedSequence,  # noqa: A002 - as torch.nn.LSTM names it
    hx: State | None = None,
) -> tuple[Any, State]:
    """Run `lstm` on our native passes.

    torch's own `forward` runs where they cannot: with a projection, with tensors that are not
    float32 on the CPU, under autocast, without compiled kernels (`training_engine()` is "torch"),
    and where an argument does not fit, which torch then says.

    Args:
        lstm: the layers.
        input: as `nn.LSTM` takes it: (time, batch, input_size), (batch, time, input_size) with
            batch_first, (time, input_size), or a `PackedSequence`.
        hx: first hidden and cell state, each (layers * directions, batch, hidden_size), or
            (layers * directions, hidden_size) for a single sequence; zeros if missing.

    Returns:
        What `nn.LSTM` returns: outputs laid out as the input, and the last states.
    """
    if not _fits(lstm, input, hx):
        return nn.LSTM.forward(lstm, input, hx)

    def direction(suffix: str, batch_sizes: list[int], h: Tensor, c: Tensor) -> Direction:
        parameters = [getattr(lstm, name + suffix, None) for name in _PARAMETERS]
        plan = Plan(
            widths=_NO_HIDDEN_LAYERS,
            batch_sizes=batch_sizes,
            reverse=suffix.endswith("_reverse"),
            slope=0.0,
            keep=1.0,
            product_dtype=torch.float32,
        )
        return Direction(plan, h, c, parameters)

    return run_layers(lstm, direction, input, hx)


def _fits(lstm: nn.LSTM, batch: Tensor | PackedSequence, hx: State | None) -> bool:
    """Whether our passes take these layers and arguments."""
    x = batch.data if isinstance(batch, PackedSequence) else batch
    weights = [tensor for layer in lstm.all_weights for tensor in layer]
    if lstm.proj_size or product_dtype(weights[0]) != torch.float32:
        return False
    if not _native.usable(x, [*weights, *(hx or ())], torch.float32):
        return False
    if x.numel() == 0 or x.shape[-1] != lstm.input_size:
        return False
    if isinstance(batch, PackedSequence):
        shape = state_shape(lstm, int(batch.batch_sizes[0]))
    elif x.dim() == 3:
        shape = state_shape(lstm, x.shape[0 if lstm.batch_first else 1])
    elif x.dim() == 2:
        shape = state_shape(lstm)
    else:
        return False
    return hx is None or all(state.shape == shape for state in hx)


def _pays(lstm: nn.LSTM, batch: Tensor | PackedSequence) -> bool:
    """Whether our pass is the faster one.

    It leaves out dormant connections, but fills up the sequences of a step to whole vectors.
    """
    time = _time_of_products(lstm)
    if time == 1:
        return False
    if isinstance(batch, PackedSequence):
        sizes = batch.batch_sizes
        return time * float(_filled(sizes).sum() / sizes.sum()) < PAYS_BELOW_PACKED
    sequences = batch.shape[0 if lstm.batch_first else 1] if batch.dim() == 3 else 1
    return time * _filled(sequences) < PAYS_BELOW * sequences


def _time_of_products(lstm: nn.LSTM) -> float:
    """What our passes' products take where those of all connections would take 1."""
    spent = total = 0.0
    for weight_ih, weight_hh, *_ in lstm.all_weights:
        for weight in (weight_ih, weight_hh):
            active = _native.worthwhile(weight)
            spent += weight.numel() * (1.0 if active is None else _native.cost(active))
            total += weight.numel()
    return spent / total


def _filled(sequences: Any) -> Any:
    """A number of sequences, or a tensor of them, with what fills up the last vector."""
    lanes = _native.STEP_LANES
    return (sequences + lanes - 1) // lanes * lanes
