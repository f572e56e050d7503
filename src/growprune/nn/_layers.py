"""Layers over a batch in any of its forms: what `HLSTM` and `torch.nn.LSTM` have in common.

`layers` is a module with the attributes that both have: input_size, hidden_size, num_layers, bias,
batch_first, dropout, bidirectional, training and weight_ih_l0. What describes a layer's directions
is passed beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from growprune.nn import _cudnn
from growprune.nn._recurrence import Direction, product_dtype, recur

State = tuple[Tensor, Tensor]
Directions = Callable[[str, list[int], Tensor, Tensor], Direction]
"""From the suffix of the parameters' names, the sequences alive at each step, h and c (batch,
hidden_size)."""


def suffixes(layers: Any, layer: int) -> list[str]:
    """What ends the names of a layer's parameters, for each direction."""
    directions = ("", "_reverse") if layers.bidirectional else ("",)
    return [f"_l{layer}{direction}" for direction in directions]


def state_shape(layers: Any, *batch: int) -> tuple[int, ...]:
    """Shape of the hidden and the cell state."""
    return (layers.num_layers * len(suffixes(layers, 0)), *batch, layers.hidden_size)


def run_layers(
    layers: Any,
    direction: Directions,
    batch: Tensor | PackedSequence,
    hx: State | None,
    lengths: Tensor | Sequence[int] | None = None,
) -> tuple[Any, State]:
    """Outputs and last states, as `HLSTM.forward` describes them.

    Raises:
        ValueError: shapes, dtypes or lengths do not fit.
    """
    if isinstance(batch, PackedSequence):
        if lengths is not None:
            raise ValueError("a PackedSequence knows its lengths; leave out `lengths`")
        return _run_packed(layers, direction, batch, hx)
    if batch.dim() == 2:
        return _run_single(layers, direction, batch, hx, lengths)
    if batch.dim() != 3:
        raise ValueError(f"input must have 2 or 3 dimensions, got shape {tuple(batch.shape)}")
    padded = batch.transpose(0, 1) if layers.batch_first else batch
    output, state = _run_padded(layers, direction, padded, hx, lengths)
    return output.transpose(0, 1) if layers.batch_first else output, state


def check_input(x: Tensor, input_size: int, weight: Tensor) -> None:
    """Check the features and the type of an input.

    Raises:
        ValueError: they are not what the weight takes.
    """
    if x.shape[-1] != input_size:
        raise ValueError(f"input has {x.shape[-1]} features, but input_size is {input_size}")
    if x.dtype not in (weight.dtype, product_dtype(weight)):
        raise ValueError(
            f"input is {x.dtype}, but the weights are {weight.dtype}; convert one of them"
        )


def check_state(hx: State, shape: tuple[int, ...]) -> None:
    """Check the shapes of a hidden and a cell state.

    Raises:
        ValueError: one is not of this shape.
    """
    for name, state in zip(("hidden", "cell"), hx, strict=True):
        if state.shape != shape:
            raise ValueError(f"{name} state in hx has shape {tuple(state.shape)}, expected {shape}")


def _run_single(
    layers: Any,
    direction: Directions,
    x: Tensor,
    hx: State | None,
    lengths: Tensor | Sequence[int] | None,
) -> tuple[Tensor, State]:
    """One sequence, (time, input_size)."""
    if lengths is not None:
        raise ValueError("`lengths` belongs to a batch; cut a single sequence instead")
    if hx is not None:
        check_state(hx, state_shape(layers))
        hx = hx[0].unsqueeze(1), hx[1].unsqueeze(1)
    output, (h, c) = _run_padded(layers, direction, x.unsqueeze(1), hx, None)
    return output.squeeze(1), (h.squeeze(1), c.squeeze(1))


def _run_padded(
    layers: Any,
    direction: Directions,
    x: Tensor,
    hx: State | None,
    lengths: Tensor | Sequence[int] | None,
) -> tuple[Tensor, State]:
    """A padded batch, (time, batch, input_size)."""
    time, batch, _ = x.shape
    if time == 0 or batch == 0:
        raise ValueError(f"input needs at least one step and sequence, got {time} and {batch}")
    steps = None if lengths is None else _checked_lengths(lengths, time, batch)
    if steps is None or bool((steps == time).all()):
        rows = PackedSequence(x.flatten(0, 1), torch.full((time,), batch))
        output, state = _run_packed(layers, direction, rows, hx)
        return output.data.unflatten(0, (time, batch)), state
    rows = pack_padded_sequence(x, steps, enforce_sorted=False)
    output, state = _run_packed(layers, direction, rows, hx)
    return pad_packed_sequence(output, total_length=time)[0], state


def _run_packed(
    layers: Any, direction: Directions, packed: PackedSequence, hx: State | None
) -> tuple[PackedSequence, State]:
    x, sizes, order, back = packed
    check_input(x, layers.input_size, layers.weight_ih_l0)
    batch_sizes = sizes.tolist()
    shape = state_shape(layers, batch_sizes[0])
    dtype = layers.weight_ih_l0.dtype
    if hx is None:
        hx = x.new_zeros(shape, dtype=dtype), x.new_zeros(shape, dtype=dtype)
    check_state(hx, shape)
    h, c = (_reordered(state.to(dtype), order) for state in hx)
    weights = [getattr(layers, name) for name in _cudnn_order(layers)] if x.is_cuda else []
    if weights and _cudnn.fits(layers, weights, x):
        x, h, c = _cudnn.run_stack(layers, weights, x, sizes, h, c)
    else:
        x, h, c = _run_stack(layers, direction, x, batch_sizes, h, c)
    return PackedSequence(x, sizes, order, back), (_reordered(h, back), _reordered(c, back))


def _cudnn_order(layers: Any) -> Iterator[str]:
    """Names of the parameters of an ordinary LSTM."""
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if layers.bias else ()))
    for layer in range(layers.num_layers):
        for suffix in suffixes(layers, layer):
            yield from (kind + suffix for kind in kinds)


def _run_stack(
    layers: Any, direction: Directions, x: Tensor, batch_sizes: list[int], h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Packed rows through all layers."""
    states = iter(zip(h, c, strict=True))
    last = []
    for layer in range(layers.num_layers):
        if layer and layers.dropout:
            x = dropout(x, layers.dropout, layers.training)
        ends = suffixes(layers, layer)
        runs = recur(x, [direction(suffix, batch_sizes, *next(states)) for suffix in ends])
        x = torch.cat([outputs for outputs, _, _ in runs], -1) if len(runs) > 1 else runs[0][0]
        last += [state for _, *state in runs]
    return x, torch.stack([h for h, _ in last]), torch.stack([c for _, c in last])


def _checked_lengths(lengths: Tensor | Sequence[int], time: int, batch: int) -> Tensor:
    steps = torch.as_tensor(lengths).cpu()
    if steps.is_floating_point() or steps.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, got {steps.dtype}")
    if steps.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), got {tuple(steps.shape)}")
    outside = steps[(steps < 1) | (steps > time)]
    if len(outside):
        raise ValueError(f"lengths must lie in 1 to {time} (time), got {outside.tolist()}")
    return steps


def _reordered(state: Tensor, order: Tensor | None) -> Tensor:
    return state if order is None else state.index_select(1, order)
