"""The passes of `growprune.nn._recurrence` on a CUDA device: each one a single kernel.

A kernel walks through time by itself. Its programs, one to a multiprocessor and running together,
share the units of a layer and wait for each other twice a step. It takes layers whose gates have
one hidden layer each, all of one width, with float32 parameters. Products are in TF32 where torch
multiplies float32 matrices so (`torch.set_float32_matmul_precision`), and under autocast in its
type; sums, gates and states are float32.

The formulas and the order of rows are those of `growprune.nn._recurrence`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from growprune.nn._triton_kernels import backward_kernel, forward_kernel

Widths = tuple[tuple[int, ...], ...]
GATES = 4


class Tape(NamedTuple):
    """What the backward pass needs of the forward pass.

    Attributes:
        x: inputs in the type of the products, (rows, input_size).
        h: hidden state each row started from, (rows, hidden_size).
        c: cell state each row started from, (rows, hidden_size).
        gates: i, f, g, o, (4, rows, hidden_size).
        hidden: of the gates, (4, rows, width).
        scales: what dropout multiplied them by, (4, rows, width); None without dropout.
    """

    x: Tensor
    h: Tensor
    c: Tensor
    gates: Tensor
    hidden: Tensor
    scales: Tensor | None


@dataclass(frozen=True)
class Weights:
    """Parameters of one layer and direction, weights in the type of the products.

    Attributes:
        ih: (4 width, input_size).
        hh: (4 width, hidden_size).
        bias: both biases of the first stage together, (4 width,), or None.
        later: of the gates' second stages, (4, hidden_size, width).
        later_bias: (4, hidden_size), or None.
    """

    ih: Tensor
    hh: Tensor
    bias: Tensor | None
    later: Tensor
    later_bias: Tensor | None

    @classmethod
    def of(cls, parameters: Sequence[Tensor | None], product_dtype: torch.dtype) -> "Weights":
        """From parameters in the order of `growprune.nn._gates.parameter_shapes`."""
        ih, hh, bias_ih, bias_hh, *others = parameters
        assert ih is not None
        assert hh is not None
        later = torch.stack([weight for weight in others[::2] if weight is not None])
        biases = [bias for bias in others[1::2] if bias is not None]
        return cls(
            ih.to(product_dtype),
            hh.to(product_dtype).contiguous(),
            None if bias_ih is None or bias_hh is None else bias_ih + bias_hh,
            later.to(product_dtype),
            torch.stack(biases) if biases else None,
        )


def fits(widths: Widths, product_dtype: torch.dtype, tensors: Sequence[Tensor | None]) -> bool:
    """Whether the kernels take such a layer."""
    same = len(set(widths)) == 1 and len(widths[0]) == 1
    types = all(t is None or t.dtype == torch.float32 for t in tensors)
    return same and types and product_dtype in (torch.float32, torch.bfloat16, torch.float16)


def forward(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weights: Weights,
    scales: Tensor | None,
    batch_sizes: Sequence[int],
    *,
    reverse: bool,
    slope: float,
    record: bool,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tape]:
    """Outputs and last states, and the tape, which is filled only if `record` is set."""
    width, hidden_size = weights.later.shape[2], weights.later.shape[1]
    rows = len(x) if record else len(h)
    x = x.to(weights.ih.dtype)
    first = linear(x, weights.ih).float()
    if weights.bias is not None:
        first += weights.bias
    gates = h.new_empty(GATES, rows, hidden_size)
    hidden = h.new_empty(GATES, rows, width)
    h_before, c_before = h.new_empty(2, rows, hidden_size)
    h, c = _own(h), _own(c)
    outputs = h.new_empty(len(x), hidden_size)
    steps = _Steps.of(tuple(batch_sizes), h.device)
    launch = _Launch.of(h, batch_sizes[0], hidden_size, width)
    launch(
        forward_kernel,
        first,
        hidden,
        first if scales is None else scales,
        gates,
        h_before,
        c_before,
        outputs,
        h,
        c,
        weights.hh,
        weights.later,
        first if weights.later_bias is None else weights.later_bias,
        steps.starts,
        steps.counts,
        launch.barrier,
        len(batch_sizes),
        rows,
        len(x),
        slope,
        hidden_size,
        width,
        REVERSE=reverse,
        RECORD=record,
        BIAS=weights.later_bias is not None,
        DROPOUT=scales is not None,
    )
    return (outputs, h, c), Tape(x, h_before, c_before, gates, hidden, scales)


def backward(
    tape: Tape,
    weights: Weights,
    grads: Sequence[Tensor],
    batch_sizes: Sequence[int],
    *,
    reverse: bool,
    slope: float,
    x_dtype: torch.dtype,
    need_x: bool,
) -> list[Tensor | None]:
    """Gradients of x, h, c and the parameters, in the order of the parameters."""
    doutputs, dh, dc = grads[0].contiguous(), _own(grads[1]), _own(grads[2])
    _, rows, hidden_size = tape.gates.shape
    width = tape.hidden.shape[2]
    dgates = torch.empty_like(tape.gates)
    dfirst = dh.new_empty(rows, GATES * width)
    steps = _Steps.of(tuple(batch_sizes), dh.device)
    launch = _Launch.of(dh, batch_sizes[0], hidden_size, width)
    launch(
        backward_kernel,
        tape.gates,
        tape.c,
        tape.hidden,
        dfirst if tape.scales is None else tape.scales,
        doutputs,
        dgates,
        dfirst,
        dh,
        dc,
        weights.hh,
        weights.later,
        steps.starts,
        steps.counts,
        launch.barrier,
        len(batch_sizes),
        rows,
        slope,
        hidden_size,
        width,
        REVERSE=reverse,
        DROPOUT=tape.scales is not None,
    )
    rounded, deltas = dfirst.to(weights.ih.dtype), dgates.to(weights.ih.dtype)
    hidden, h = tape.hidden.to(weights.ih.dtype), tape.h.to(weights.ih.dtype)
    dlater = torch.bmm(deltas.transpose(1, 2), hidden).float()
    dbias = None if weights.bias is None else dfirst.sum(0)
    dlater_bias = [None] * GATES if weights.later_bias is None else dgates.sum(1)
    later = [one for pair in zip(dlater, dlater_bias, strict=True) for one in pair]
    return [
        (rounded @ weights.ih).to(x_dtype) if need_x else None,
        dh,
        dc,
        (rounded.t() @ tape.x).float(),
        (rounded.t() @ h).float(),
        dbias,
        dbias,
        *later,
    ]


@dataclass(frozen=True)
class _Steps:
    """First row and number of rows of each time step, on the device."""

    starts: Tensor
    counts: Tensor

    @classmethod
    @functools.lru_cache(maxsize=256)
    def of(cls, batch_sizes: tuple[int, ...], device: torch.device) -> "_Steps":
        counts = torch.tensor(batch_sizes, dtype=torch.int32)
        starts = counts.cumsum(0, dtype=torch.int32) - counts
        return cls(starts.to(device), counts.to(device))


@dataclass(frozen=True)
class _Launch:
    """How a kernel is started."""

    device: torch.device
    programs: int
    barrier: Tensor
    options: dict[str, Any]

    @classmethod
    def of(cls, like: Tensor, batch: int, hidden_size: int, width: int) -> "_Launch":
        properties = torch.cuda.get_device_properties(like.device) if like.is_cuda else None
        # The interpreter runs one program after the other.
        cores = properties.multi_processor_count if properties else 1
        hidden, state = (_tile(batch, units, cores) for units in (GATES * width, hidden_size))
        units_and_sequences = max(sum(hidden), sum(state))
        depth = 128 if units_and_sequences <= 64 else 64
        options: dict[str, Any] = {
            "PRECISION": "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
            **dict(zip(("BM_1", "BN_1", "BM_2", "BN_2"), (*hidden, *state), strict=True)),
            "BK": depth,
        }
        if properties:
            block = 4 * units_and_sequences * depth
            room = properties.shared_memory_per_multiprocessor - 2048
            # All programs run at once, or waiting for each other would never end.
            options |= {"launch_cooperative_grid": True, "num_warps": 4}
            options["num_stages"] = 3 if 3 * block <= room else 2
        tiles = (_tiles(batch, GATES * width, hidden), _tiles(batch, hidden_size, state))
        barrier = torch.zeros(1, dtype=torch.int32, device=like.device)
        return cls(like.device, min(cores, max(tiles)), barrier, options)

    def __call__(self, kernel: Any, *arguments: Any, **constants: bool) -> None:
        """Start it with its arguments, but for the options of the launch."""
        with torch.cuda.device(self.device if self.device.type == "cuda" else -1):
            kernel[(self.programs,)](*arguments, **constants, **self.options)


def _own(state: Tensor) -> Tensor:
    """A copy to be changed in place, as the kernels read it."""
    return state.clone(memory_format=torch.contiguous_format)


def _tile(batch: int, units: int, cores: int) -> tuple[int, int]:
    """Sequences and units of a tile that leave the least to read for the busiest core.

    For each of its tiles a core reads a row for each sequence and one for each unit.
    """
    sizes = ((16, 16), (16, 32), (32, 16), (32, 32), (64, 16), (64, 32), (64, 64))
    return min(sizes, key=lambda tile: -(-_tiles(batch, units, tile) // cores) * sum(tile))


def _tiles(batch: int, units: int, tile: tuple[int, int]) -> int:
    return -(-batch // tile[0]) * -(-units // tile[1])
