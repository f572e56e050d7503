"""What the operations compute, on whole sequences, single steps and streams.

A layer has up to three ways to run:

- `run(inputs, lengths)`: inputs `(batch, time, *features)`, lengths `(batch,)` or None if all
  sequences fill their time. Gives the output and its lengths. Padding may hold anything on the
  way in and out, but never reaches what is not padding.
- `step(inputs, state)`: inputs `(batch, *features)`; gives the output and the state that follows.
- `stream(batch)`: an object whose `advance(inputs, is_last)` takes what has arrived on every
  input and gives what is ready.

`not_steppable` and `not_streamable` say why a layer has no such way, or are None. `states` counts
the arrays that it carries from step to step.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from growprune import native
from growprune.runtime.graph import GATES, Node, Shape
from growprune.runtime.matrices import Table

Array = np.ndarray
State = tuple[Array, ...]
"""States a layer carries from step to step, each `(batch, ...)`."""

_WINDOW_NUMBERS = 1 << 22
"""Convolution windows are copied out for so many numbers at a time (16 MB)."""


class Streaming(Protocol):
    """A layer in the middle of a stream."""

    def advance(self, inputs: Sequence[Array], is_last: bool) -> Array:
        """Take the next `(batch, time, *features)` of every input, give what is ready."""


class Framewise:
    """`y[t] = function(x[t], ...)`, on arrays of any leading axes."""

    states = 0
    not_streamable: str | None = None
    not_steppable: str | None = None

    def __init__(self, function: Callable[..., Array]) -> None:
        self._function = function

    def run(self, inputs: Sequence[Array], lengths: Array | None) -> tuple[Array, Array | None]:
        """Whole sequences; the padding is computed as well."""
        return self._function(*inputs), lengths

    def first_state(self, batch: int) -> State:  # noqa: ARG002
        """Nothing is carried."""
        return ()

    def step(self, inputs: Sequence[Array], state: State) -> tuple[Array, State]:
        """One step."""
        return self._function(*inputs), state

    def stream(self, batch: int) -> Streaming:  # noqa: ARG002
        """Begin a stream; several inputs wait for one another."""
        return _FramewiseStream(self._function)


class _FramewiseStream:
    def __init__(self, function: Callable[..., Array]) -> None:
        self._function = function
        self._waiting: list[Array] = []

    def advance(self, inputs: Sequence[Array], is_last: bool) -> Array:  # noqa: ARG002
        if len(inputs) == 1:
            return self._function(*inputs)
        if self._waiting:
            pairs = zip(self._waiting, inputs, strict=True)
            inputs = [np.concatenate(pair, axis=1) for pair in pairs]
        ready = min(x.shape[1] for x in inputs)
        self._waiting = [x[:, ready:] for x in inputs]
        return self._function(*(x[:, :ready] for x in inputs))


class Convolution:
    """Convolution over time, and over positions beside it where the kernel has two axes.

    The weight's columns are (kernel time, kernel positions, channels). Beyond a sequence's ends
    it sees zeros.
    """

    states = 1
    not_streamable: str | None = None

    def __init__(
        self,
        weight: native.Matrix,
        bias: Array,
        attributes: Mapping[str, Any],
        features: Sequence[int],
    ) -> None:
        self._weight, self._bias, self._features = weight, bias, features
        # A second axis of one position turns the one-dimensional case into the other one.
        self._kernel, self._stride, self._dilation = (
            (*attributes[name], 1)[:2] for name in ("kernel", "stride", "dilation")
        )
        self._padding = (*attributes["padding"], (0, 0))[:2]
        self._reach = [(k - 1) * d for k, d in zip(self._kernel, self._dilation, strict=True)]
        is_causal = self._stride[0] == 1 and tuple(self._padding[0]) == (self._reach[0], 0)
        self.not_steppable = None if is_causal else "does not give one step for each it reads"

    def run(self, inputs: Sequence[Array], lengths: Array | None) -> tuple[Array, Array | None]:
        """Whole sequences."""
        x = without_padding(inputs[0], lengths)
        left, right = self._padding[0]
        y = self._convolve(_padded(x, 1, left, right))
        if lengths is not None:
            lengths = self._output_length(lengths + (left + right))
        return y, lengths

    def first_state(self, batch: int) -> State:
        """The frames before the first one: zeros."""
        return (np.zeros((batch, self._padding[0][0], *self._features), np.float32),)

    def step(self, inputs: Sequence[Array], state: State) -> tuple[Array, State]:
        """One step; the state are the last frames, `(batch, time, *features)`."""
        frames = np.concatenate([state[0], inputs[0][:, None]], axis=1)
        return self._convolve(frames)[:, 0], (frames[:, 1:],)

    def stream(self, batch: int) -> Streaming:
        """Begin a stream: the last frames are kept, and what looks ahead comes late."""
        return _ConvolutionStream(self, batch)

    def _output_length(self, time: Any) -> Any:
        """Steps out for steps in, padding included; at least 0."""
        return np.maximum((time - self._reach[0] - 1) // self._stride[0] + 1, 0)

    def _convolve(self, x: Array) -> Array:
        """All windows of `(batch, time, [positions,] channels)`, which is padded in time."""
        batch, time = x.shape[:2]
        x = x.reshape(batch, time, *(1, *self._features)[-2:])
        x = _padded(x, 2, *self._padding[1])
        steps = int(self._output_length(time))
        positions = (x.shape[2] - self._reach[1] - 1) // self._stride[1] + 1
        y = np.empty((batch, steps, positions, self._weight.rows), np.float32)
        if steps:
            windows = self._windows(x)
            size = batch * positions * self._weight.columns
            chunk = max(1, _WINDOW_NUMBERS // max(1, size))
            for start in range(0, steps, chunk):
                rows = windows[:, start : start + chunk].reshape(-1, self._weight.columns)
                found = native.product(self._weight, rows)
                y[:, start : start + chunk] = found.reshape(batch, -1, *y.shape[2:])
            y += self._bias
        return y if len(self._features) == 2 else y[:, :, 0]

    def _windows(self, x: Array) -> Array:
        """View `(batch, time out, positions out, kernel time, kernel positions, channels)`."""
        shape = [reach + 1 for reach in self._reach]
        windows = np.lib.stride_tricks.sliding_window_view(x, shape, axis=(1, 2))
        (time, position), (across, up) = self._stride, self._dilation
        windows = windows[:, ::time, ::position, :, ::across, ::up]
        return windows.transpose(0, 1, 2, 4, 5, 3)


class _ConvolutionStream:
    def __init__(self, layer: Convolution, batch: int) -> None:
        self._layer = layer
        (self._frames,) = layer.first_state(batch)
        self._skip = 0  # frames to come that no window needs, where the stride exceeds the kernel

    def advance(self, inputs: Sequence[Array], is_last: bool) -> Array:
        layer = self._layer
        frames = np.concatenate([self._frames, inputs[0]], axis=1)
        if is_last:
            frames = _padded(frames, 1, 0, layer._padding[0][1])
        skipped = min(self._skip, frames.shape[1])
        frames = frames[:, skipped:]
        y = layer._convolve(frames)
        used = y.shape[1] * layer._stride[0]
        self._skip += max(0, used - frames.shape[1]) - skipped
        self._frames = frames[:, used:].copy()
        return y


class Recurrent:
    """One recurrent layer in one direction."""

    def __init__(self, layer: native.Recurrent, has_cell: bool, reverse: bool) -> None:
        self._layer, self._reverse = layer, reverse
        self.states = 2 if has_cell else 1
        reason = "reads the sequence from its end" if reverse else None
        self.not_streamable: str | None = reason
        self.not_steppable: str | None = reason

    def run(self, inputs: Sequence[Array], lengths: Array | None) -> tuple[Array, Array | None]:
        """Whole sequences from zero states; the outputs are zero in the padding."""
        return self._layer.run(inputs[0], lengths, reverse=self._reverse)[0], lengths

    def first_state(self, batch: int) -> State:
        """Zeros."""
        shape = (batch, self._layer.hidden_size)
        return tuple(np.zeros(shape, np.float32) for _ in range(self.states))

    def step(self, inputs: Sequence[Array], state: State) -> tuple[Array, State]:
        """One step."""
        h, c = self._layer.step(inputs[0], *state)
        return h, (h,) if c is None else (h, c)

    def stream(self, batch: int) -> Streaming:
        """Begin a stream: states are carried from piece to piece."""
        return _RecurrentStream(self._layer, self.first_state(batch))


class _RecurrentStream:
    def __init__(self, layer: native.Recurrent, state: State) -> None:
        self._layer, self._state = layer, state

    def advance(self, inputs: Sequence[Array], is_last: bool) -> Array:  # noqa: ARG002
        h, c = (*self._state, None)[:2]
        y, h, c = self._layer.run(inputs[0], None, h, c)
        self._state = (h,) if c is None else (h, c)
        return y


class Reduction:
    """One frame for the whole sequence: its `first`, its `last`, or the `mean` of all."""

    states = 0
    not_streamable = not_steppable = "gives one result for the whole sequence"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def run(self, inputs: Sequence[Array], lengths: Array | None) -> tuple[Array, Array | None]:
        """Whole sequences; gives `(batch, *features)`."""
        x = inputs[0]
        if self._kind == "first":
            return x[:, 0], None
        if lengths is None:
            return x[:, -1] if self._kind == "last" else x.mean(axis=1), None
        if self._kind == "last":
            return x[np.arange(len(x)), lengths - 1], None
        total = without_padding(x, lengths).sum(axis=1)
        return total / lengths.reshape(-1, *[1] * (total.ndim - 1)).astype(np.float32), None


Layer = Framewise | Convolution | Recurrent | Reduction


def without_padding(x: Array, lengths: Array | None) -> Array:
    """`x` with zeros beyond the lengths; a copy only where something has to change."""
    if lengths is None or (lengths == x.shape[1]).all():
        return x
    beyond = np.arange(x.shape[1]) >= lengths[:, None]
    x = x.copy()
    x[beyond] = 0
    return x


def make_layer(
    node: Node,
    inputs: Sequence[Shape],
    matrices: Mapping[str, native.Matrix],
    vectors: Mapping[str, Array],
) -> Layer:
    """The layer of a node that `output_shape` has accepted and that is no embedding.

    Args:
        node: the node.
        inputs: shapes of its inputs.
        matrices: its matrices, by the rule's names.
        vectors: its vectors, by the rule's names.
    """
    if node.op == "convolution":
        features = inputs[0].features
        return Convolution(matrices["weight"], vectors["bias"], node.attributes, features)
    if node.op == "lstm":
        return _make_lstm(node, matrices, vectors)
    if node.op == "gru":
        recurrent = native.Recurrent(
            "gru",
            matrices["ih"],
            matrices["hh"],
            vectors["bias"],
            hidden_bias=vectors["bias_new"],
        )
        return Recurrent(recurrent, has_cell=False, reverse=node.attributes["reverse"])
    if node.op in ("first", "last", "mean"):
        return Reduction(node.op)
    return Framewise(_framewise(node, inputs, matrices, vectors))


def make_embedding(table: Table) -> Layer:
    """The layer of an embedding."""
    return Framewise(partial(_look_up, table))


def _make_lstm(
    node: Node, matrices: Mapping[str, native.Matrix], vectors: Mapping[str, Array]
) -> Recurrent:
    stages = [
        [
            (matrices[f"{gate}_{stage}"], vectors[f"bias_{gate}_{stage}"])
            for stage in range(1, depth + 1)
        ]
        for gate, depth in zip(GATES, node.attributes["depths"], strict=True)
    ]
    recurrent = native.Recurrent(
        "lstm",
        matrices["ih"],
        matrices["hh"],
        vectors["bias"],
        stages if any(stages) else (),
        slope=node.attributes["slope"],
    )
    return Recurrent(recurrent, has_cell=True, reverse=node.attributes["reverse"])


def _framewise(
    node: Node,
    inputs: Sequence[Shape],
    matrices: Mapping[str, native.Matrix],
    vectors: Mapping[str, Array],
) -> Callable[..., Array]:
    """The function of an operation that works on each frame by itself."""
    axes = len(inputs[0].features)
    settings = node.attributes
    functions: dict[str, Callable[[], Callable[..., Array]]] = {
        "linear": lambda: partial(_linear, matrices["weight"], vectors["bias"]),
        "affine": lambda: partial(_affine, vectors["scale"], vectors["shift"]),
        "layer_norm": lambda: partial(
            native.layer_norm,
            weight=vectors["weight"],
            bias=vectors["bias"],
            eps=settings["epsilon"],
        ),
        "relu": lambda: partial(native.leaky_relu, slope=0.0),
        "leaky_relu": lambda: partial(native.leaky_relu, slope=settings["slope"]),
        "hardtanh": lambda: partial(np.clip, a_min=settings["low"], a_max=settings["high"]),
        "gelu": lambda: _gelu_tanh if settings["tanh"] else _gelu,
        "sigmoid": lambda: native.sigmoid,
        "tanh": lambda: native.tanh,
        "silu": lambda: _silu,
        "softmax": lambda: _softmax,
        "log_softmax": lambda: native.log_softmax,
        "add": lambda: _add,
        "concatenate": lambda: _concatenate,
        "reshape": lambda: partial(_reshape, axes, tuple(settings["features"])),
        "permute": lambda: partial(_permute, tuple(settings["order"])),
    }
    return functions[node.op]()


def _linear(weight: native.Matrix, bias: Array, x: Array) -> Array:
    y = native.product(weight, x.reshape(-1, weight.columns))
    y += bias
    return y.reshape(*x.shape[:-1], weight.rows)


def _look_up(table: Table, ids: Array) -> Array:
    if ids.size and (ids.min() < 0 or ids.max() >= table.rows):
        raise ValueError(f"ids must lie in 0 to {table.rows - 1}, got {ids.min()} to {ids.max()}")
    return table(ids)


def _affine(scale: Array, shift: Array, x: Array) -> Array:
    return x * scale + shift


def _gelu(x: Array) -> Array:
    # NumPy has no error function; Python's is exact and takes 0.1 us a number.
    erf = np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64) * math.sqrt(0.5))
    return (0.5 * x * (1 + erf)).astype(np.float32)


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + native.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu(x: Array) -> Array:
    return x * native.sigmoid(x)


def _softmax(x: Array) -> Array:
    return np.exp(native.log_softmax(x))


def _add(*inputs: Array) -> Array:
    total = inputs[0] + inputs[1]
    for x in inputs[2:]:
        total += x
    return total


def _concatenate(*inputs: Array) -> Array:
    return np.concatenate(inputs, axis=-1)


def _reshape(axes: int, features: tuple[int, ...], x: Array) -> Array:
    return x.reshape(*x.shape[: x.ndim - axes], *features)


def _permute(order: tuple[int, ...], x: Array) -> Array:
    ahead = x.ndim - len(order)
    return x.transpose(*range(ahead), *(ahead + axis for axis in order))


def _padded(x: Array, axis: int, before: int, after: int) -> Array:
    """`x` with zeros along an axis."""
    if not before and not after:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return np.pad(x, widths)
