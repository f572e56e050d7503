"""The passes of `growprune.nn._recurrence` on the compiled kernels (csrc/training.h).

Tensors over lanes, (units, lanes), have a lane for each sequence and step, and a step's are filled
up to a multiple of 16. There the sequences of a batch fill the vector registers, so that single
connections can be left out without loss. In memory they come in chunks of some steps each, chunk
after chunk (units, lanes of the chunk).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from growprune.native import training
from growprune.nn._gates import Widths

SPARSE_BELOW = 0.35
"""Density under which a matrix is multiplied connection by connection ..."""
BLOCKS_BELOW = 0.65
"""... and block by block, where its connections lie in blocks."""
_ROUNDED = 0.6
"""Time of a dense product in bfloat16 where one in float32 takes 1."""
STEP_LANES = 16
"""The sequences of a step are filled up to a multiple of this."""
_FLOPS_PER_THREAD = 2e6
"""Less work than this is not worth a thread."""

Nested = list[list[Tensor]]
Results = tuple[Tensor, Tensor, Tensor]


class Dropout(NamedTuple):
    """Dropout of the gates' hidden layers in one pass.

    Attributes:
        keep: the share that is kept, below 1.
        seeds: for each gate those of its hidden layers, for
            `growprune.native.training.dropout_kept`.
    """

    keep: float
    seeds: list[list[int]]


class Tape(NamedTuple):
    """What the backward pass needs, over lanes; see `growprune.nn._recurrence._Tape`.

    Attributes:
        x: inputs, (input_size, lanes).
        states: h and c before each step, (2, hidden_size, lanes).
        gates: i, f, g, o, (4, hidden_size, lanes).
        hidden: for each gate the activations of its hidden layers, (width, lanes) each.
        scales: for each gate what dropout multiplied them by; empty lists without dropout.
    """

    x: Tensor
    states: Tensor
    gates: Tensor
    hidden: Nested
    scales: Nested

    def flatten(self) -> list[Tensor]:
        """All tensors, for `unflatten`."""
        nested = [tensor for gate in (*self.hidden, *self.scales) for tensor in gate]
        return [self.x, self.states, self.gates, *nested]

    @classmethod
    def unflatten(cls, widths: Widths, tensors: Sequence[Tensor]) -> "Tape":
        """The tape again."""
        x, states, gates, *others = tensors
        rest = iter(others)
        hidden = [[next(rest) for _ in gate] for gate in widths]
        dropped = len(others) > sum(map(len, widths))
        scales = [[next(rest) for _ in gate if dropped] for gate in widths]
        return cls(x, states, gates, hidden, scales)


def usable(x: Tensor, parameters: Sequence[Tensor | None], product_dtype: torch.dtype) -> bool:
    """Whether the kernels can make the pass, with products in this type."""
    if training.training_engine() != "native":
        return False
    types = {torch.float32}
    if product_dtype == torch.bfloat16 and (training.training_products() or training.rounds()):
        types.add(torch.bfloat16)
    if not {product_dtype, x.dtype} <= types:
        return False
    weights = all(t is None or t.dtype == torch.float32 for t in parameters)
    return weights and all(t is None or t.device.type == "cpu" for t in (x, *parameters))


def rounded(product_dtype: torch.dtype) -> bool:
    """Whether the kernels multiply dense matrices in bfloat16 where this type is asked for."""
    forced = training.training_products()
    return forced == "bfloat16" if forced else product_dtype == torch.bfloat16


class Pass:
    """One layer in one direction over one packed batch, on the kernels.

    Args:
        widths: hidden widths of each gate.
        batch_sizes: sequences alive at each step, never rising.
        reverse: run time backwards.
        slope: of the leaky ReLU below zero.
        parameters: in the order of `growprune.nn._gates.parameter_shapes`, None for no bias.
        rounded: multiply dense matrices in bfloat16.
    """

    def __init__(
        self,
        widths: Widths,
        batch_sizes: Sequence[int],
        reverse: bool,
        slope: float,
        parameters: Sequence[Tensor | None],
        rounded: bool = False,
    ) -> None:
        self.widths = widths
        self._rounded = rounded
        self._kernels, self._path = training.training_kernels()
        ih, hh, self._bias_ih, self._bias_hh, *others = parameters
        assert ih is not None
        assert hh is not None
        rest = iter(others)
        self._first = [ih, hh]
        self._later: Nested = []
        self._later_biases: list[list[Tensor | None]] = []
        for gate in widths:
            pairs = [(next(rest), next(rest)) for _ in gate]
            self._later.append([weight for weight, _ in pairs if weight is not None])
            self._later_biases.append([bias for _, bias in pairs])
        self._active = {id(w): worthwhile(w, rounded) for w in self._weights()}
        work = 2.0 * sum(batch_sizes) * sum(w.numel() * self._density(w) for w in self._weights())
        self.threads = max(1, min(torch.get_num_threads(), int(work / _FLOPS_PER_THREAD)))
        self._batch_sizes, self._reverse = np.array(batch_sizes, np.int64), reverse
        vectors = self._gathered()
        self._layer = self._kernels.TrainingLayer(
            self._path,
            self._trained(ih, vectors),
            self._trained(hh, vectors),
            [[self._trained(weight, vectors) for weight in gate] for gate in self._later],
            slope,
            rounded,
        )

    def divide(self, threads: int) -> None:
        """Divide the batch for so many threads, before the first pass."""
        # Dense weights are too many for each core to read all of them.
        parts = threads if all(self._active.values()) else 1
        self._batch = self._kernels.Batch(self._batch_sizes, self._reverse, parts)
        self._lanes: int = self._batch.lanes

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, dropout: Dropout | None, *, record: bool
    ) -> tuple[Any, tuple[Results, Tape]]:
        """The pass, ready to be made, and what it will fill.

        The tape is filled only if `record` is set.

        Args:
            x: (rows, input_size).
            h: first hidden state, (batch, hidden_size).
            c: first cell state, (batch, hidden_size).
            dropout: of the gates' hidden layers.
            record: a backward pass may follow.
        """
        hidden_size, lanes = h.shape[1], self._lanes
        kept = lanes if record else 0
        tape = Tape(
            self._room(x.shape[1], lanes),
            self._room(2 * hidden_size, kept).view(2, hidden_size, kept),
            self._room(4 * hidden_size, kept).view(4, hidden_size, kept),
            [[self._room(width, kept) for width in gate] for gate in self.widths],
            self._scales(dropout),
        )
        outputs = self._room(len(x), hidden_size)
        last_h, last_c = torch.empty_like(h), torch.empty_like(c)
        bias = None
        if self._bias_ih is not None and self._bias_hh is not None:
            bias = _array(self._bias_ih.detach() + self._bias_hh.detach())
        ready = self._layer.forward(
            self._batch,
            _array(x.float()),
            _array(h),
            _array(c),
            bias,
            [[None if b is None else _array(b) for b in gate] for gate in self._later_biases],
            self._bound(tape, record),
            _array(outputs),
            _array(last_h),
            _array(last_c),
        )
        return ready, ((outputs, last_h, last_c), tape)

    def backward(
        self, tape: Tape, grads: Sequence[Tensor], needed: Sequence[bool], *, need_x: bool
    ) -> tuple[Any, tuple[Tensor | None, list[Tensor | None]]]:
        """The pass, ready to be made, and the gradients that it will fill; None where not needed.

        They are those of x, in float32, and those of h, c and the parameters.
        """
        doutputs, dlast_h, dlast_c = grads
        deltas = self._deltas(tape)
        sums = self._sums(deltas, tape, needed[2:])
        unlike = {id(one): one for one in sums if one}.values()  # both first biases have one
        dx = self._room(len(doutputs), len(tape.x)) if need_x else None
        dh, dc = torch.empty_like(dlast_h), torch.empty_like(dlast_c)
        ready = self._layer.backward(
            self._batch,
            _array(self._rows(doutputs)),
            _array(dlast_h),
            _array(dlast_c),
            self._bound(tape, True),
            _array(deltas.first),
            [[_array(stage) for stage in gate] for gate in deltas.stages],
            [_array(gate) for gate in deltas.gates],
            [one.of_connections() for one in unlike if one.active],
            [one.of_dense() for one in unlike if one.value is not None and not one.active],
            [one.of_bias() for one in unlike if one.value is None],
            None if dx is None else _array(dx),
            _array(dh),
            _array(dc),
        )
        for one in unlike:
            if one.active is not None:
                one.active.note_gradient(one.gradient, one.vector)
        return ready, (dx, [dh, dc, *(one and one.gradient for one in sums)])

    def _deltas(self, tape: Tape) -> "_Deltas":
        """Room for the gradients of sums, which all chunks share."""
        lanes = self._batch.chunk_lanes
        hidden_size = tape.gates.shape[1]
        return _Deltas(
            self._room(len(self._first[0]), lanes),
            [[self._room(width, lanes) for width in gate[1:]] for gate in self.widths],
            [self._room(hidden_size if gate else 0, lanes) for gate in self.widths],
        )

    def _sums(self, deltas: "_Deltas", tape: Tape, needed: Sequence[bool]) -> "list[_Sum | None]":
        """The sums that are the parameters' gradients, in their order; None where not needed."""
        ih, hh = self._first
        bias = _Sum.bias(deltas.first)
        found = [
            self._weight_sum(ih, deltas.first, tape.x),
            self._weight_sum(hh, deltas.first, tape.states[0]),
            bias,
            bias,
        ]
        for k, (weights, hidden) in enumerate(zip(self._later, tape.hidden, strict=True)):
            stages = [*deltas.stages[k], deltas.gates[k]]
            for weight, delta, value in zip(weights, stages, hidden, strict=False):
                found += [self._weight_sum(weight, delta, value), _Sum.bias(delta)]
        return [one if need else None for one, need in zip(found, needed, strict=True)]

    def _weight_sum(self, weight: Tensor, delta: Tensor, value: Tensor) -> "_Sum":
        active, gradient = self._active[id(weight)], self._room(*weight.shape)
        if active is None or active.all_gradients:
            return _Sum(delta, value, gradient, rounded=self._rounded)
        return _Sum(delta, value, gradient, active, weight.new_empty(active.count))

    def _bound(self, tape: Tape, record: bool) -> Any:
        scales = tape.scales if any(tape.scales) else [[None] * len(g) for g in self.widths]
        return self._kernels.Tape(
            _array(tape.x),
            [[None if s is None else _array(s) for s in gate] for gate in scales],
            *(_array(state) if record else None for state in tape.states),
            [_array(gate) for gate in tape.gates],
            [[_array(layer) for layer in gate] for gate in tape.hidden],
        )

    def _scales(self, dropout: Dropout | None) -> Nested:
        """Dropout's factors for each gate's hidden layers; empty lists without dropout."""
        if dropout is None:
            return [[] for _ in self.widths]
        return [
            [self._scale(dropout.keep, *layer) for layer in zip(gate, seeds, strict=True)]
            for gate, seeds in zip(self.widths, dropout.seeds, strict=True)
        ]

    def _scale(self, keep: float, width: int, seed: int) -> Tensor:
        lanes = self._room(width, self._lanes)
        self._batch.dropout(self._path, seed, keep, _array(lanes), self.threads)
        return lanes

    def _rows(self, tensor: Tensor) -> Tensor:
        """The matrix with its rows in a row, in kept memory if it has to be copied."""
        if tensor.is_contiguous():
            return tensor
        return self._room(*tensor.shape).copy_(tensor)

    def _room(self, units: int, lanes: int) -> Tensor:
        """Memory that is kept for the next pass, (units, lanes)."""
        return torch.from_numpy(self._kernels.lanes_of_memory(units, lanes))

    def _gathered(self) -> dict[int, np.ndarray]:
        """Vectors of the active connections of sparse weights, by the weights' ids."""
        sparse = [(w, active) for w in self._weights() if (active := self._active[id(w)])]
        vectors = [np.empty(active.count, np.float32) for _, active in sparse]
        pairs = zip(sparse, vectors, strict=True)
        copies = [(active.indices, _array(w), vector) for (w, active), vector in pairs]
        self._kernels.gather(copies, self.threads)
        return {id(w): vector for (w, _), vector in zip(sparse, vectors, strict=True)}

    def _trained(self, weight: Tensor, vectors: dict[int, np.ndarray]) -> Any:
        active = self._active[id(weight)]
        if active is None:
            return self._kernels.Trained(_array(weight).reshape(-1), weight.shape, None)
        return self._kernels.Trained(vectors[id(weight)], weight.shape, active.indices)

    def _density(self, weight: Tensor) -> float:
        active = self._active[id(weight)]
        return 1.0 if active is None else active.density

    def _weights(self) -> Iterator[Tensor]:
        yield from self._first
        for gate in self._later:
            yield from gate


class Layer:
    """All directions of one layer over one packed batch, on the kernels.

    They are made side by side, each by its share of the threads, where these are as many for each;
    else one after the other, each by all threads.

    Args:
        passes: a pass for each direction.
    """

    def __init__(self, passes: Sequence[Pass]) -> None:
        self._kernels, _ = training.training_kernels()
        self._passes = passes
        self._threads = min(one.threads for one in passes)
        self._at_once = 1 if self._threads % len(passes) else len(passes)
        for one in passes:
            one.divide(self._threads // self._at_once)

    def forward(
        self, x: Tensor, states: Sequence[tuple[Tensor, Tensor, Dropout | None]], *, record: bool
    ) -> list[tuple[Results, Tape]]:
        """Outputs and last states, and the tape, filled only if `record` is set, by direction.

        Args:
            x: (rows, input_size).
            states: for each direction first hidden and cell state, (batch, hidden_size), and
                dropout of the gates' hidden layers.
            record: a backward pass may follow.
        """
        self._input_dtype = x.dtype
        pairs = zip(self._passes, states, strict=True)
        return self._make([partial(one.forward, x, *own, record=record) for one, own in pairs])

    def backward(
        self,
        tapes: Sequence[Tape],
        grads: Sequence[Sequence[Tensor]],
        need_x: bool,
        needed: Sequence[Sequence[bool]],
    ) -> tuple[Tensor | None, list[list[Tensor | None]]]:
        """Gradients of x, and by direction of h, c and the parameters; None where not needed."""
        made = self._make(
            [
                partial(one.backward, tape, own, wanted, need_x=need_x)
                for one, tape, own, wanted in zip(self._passes, tapes, grads, needed, strict=True)
            ]
        )
        dx = [one.to(self._input_dtype) for one, _ in made if one is not None]
        return reduce(Tensor.add_, dx) if dx else None, [others for _, others in made]

    def _make(self, preparations: Sequence[Callable[[], tuple[Any, Any]]]) -> list[Any]:
        """Prepare and make passes; what each has filled."""
        starts = range(0, len(preparations), self._at_once)
        groups = [preparations[i : i + self._at_once] for i in starts]
        return [filled for group in groups for filled in self._make_at_once(group)]

    def _make_at_once(self, preparations: Sequence[Callable[[], tuple[Any, Any]]]) -> list[Any]:
        prepared = [prepare() for prepare in preparations]
        self._kernels.make([ready for ready, _ in prepared], self._threads)
        return [filled for _, filled in prepared]


class _Deltas(NamedTuple):
    """Gradients of the sums: of all first stages, of hidden layers after the first, of gates."""

    first: Tensor
    stages: Nested
    gates: list[Tensor]


class _Sum(NamedTuple):
    """A parameter's gradient: the sum over lanes of delta's outer product with value.

    Attributes:
        delta: (rows, lanes).
        value: (columns, lanes); None for a bias, the sum of delta.
        gradient: what the kernels fill.
        active: the connections that it is wanted for; None for all.
        vector: of the active connections' gradients.
        rounded: in bfloat16, where all connections are wanted.
    """

    delta: Tensor
    value: Tensor | None
    gradient: Tensor
    active: training.ActiveConnections | None = None
    vector: Tensor | None = None
    rounded: bool = False

    @classmethod
    def bias(cls, delta: Tensor) -> "_Sum":
        return cls(delta, None, delta.new_empty(len(delta)))

    def of_connections(self) -> tuple[Any, ...]:
        assert self.active is not None
        assert self.vector is not None
        delta, value, gradient = self._arrays()
        return self.active.indices, delta, value, _array(self.vector), gradient

    def of_dense(self) -> tuple[Any, ...]:
        return self.rounded, *self._arrays()

    def _arrays(self) -> Iterator[np.ndarray]:
        assert self.value is not None
        return (_array(tensor) for tensor in (self.delta, self.value, self.gradient))

    def of_bias(self) -> tuple[np.ndarray, np.ndarray]:
        return _array(self.delta), _array(self.gradient)


def worthwhile(weight: Tensor, rounded: bool = False) -> training.ActiveConnections | None:
    """The weight's active connections if leaving out the others is faster than a dense product.

    Args:
        weight: (rows, columns).
        rounded: the dense product would be one in bfloat16.
    """
    active = training.active_of(weight)
    return active if active is not None and cost(active) <= (_ROUNDED if rounded else 1) else None


def cost(active: training.ActiveConnections) -> float:
    """The time of products with these connections alone where the dense ones take 1."""
    blocks = active.density <= BLOCKS_BELOW and active.in_blocks
    return active.density / (BLOCKS_BELOW if blocks else SPARSE_BELOW)


def _array(tensor: Tensor) -> np.ndarray:
    """The same memory, contiguous, as an array."""
    array: np.ndarray = tensor.contiguous().numpy(force=True)
    return array
