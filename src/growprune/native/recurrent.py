"""Recurrent layers: a whole sequence or a single step in one call."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from growprune.native.checks import array, array_of_shape
from growprune.native.matrix import Matrix

GATES = {"lstm": 4, "gru": 3}

Stage = tuple[Matrix, np.ndarray]
_FLOAT = np.dtype(np.float32)


class Recurrent:
    """One recurrent layer in one direction: LSTM, H-LSTM or GRU.

    For "lstm", with the gates k = i, f, g, o stacked in this order along the first stage's rows:

        first = ih x_t + hh h_{t-1} + bias
        z_k = part k of first, or with later stages M, d of that gate: z_k = M leaky_relu(z_k) + d
        c_t = sigmoid(z_f) c_{t-1} + sigmoid(z_i) tanh(z_g);  h_t = sigmoid(z_o) tanh(c_t)

    For "gru", with the gates r, z, n (`torch.nn.GRU`'s formula):

        from_x = ih x_t + bias;  from_h = hh h_{t-1}
        r, z = sigmoid(from_x + from_h)
        n = tanh(from_x_n + r (from_h_n + hidden_bias))
        h_t = (1 - z) n + z h_{t-1}

    A GRU has no cell state: where `c` is taken or given below, it is None.

    Calls from several threads take turns.

    Args:
        kind: "lstm" or "gru".
        ih: (first-stage rows, input).
        hh: (first-stage rows, hidden).
        bias: (first-stage rows,) float32: for "lstm" the sum of both biases, for "gru" that of
            both for r and z, and the input's bias for n.
        stages: later stages of each gate i, f, g, o of an H-LSTM, each a matrix and a bias
            (rows,) float32; a gate takes as many rows of the first stage as its second stage has
            columns, and its last stage has hidden rows. Empty for an ordinary LSTM or a GRU.
        slope: of the leaky ReLU between stages, for what is negative; with 0 the zeros it leaves
            are skipped by the layout "blocks".
        hidden_bias: (hidden,) float32: hidden bias of the gate n; for "gru" only.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes that do not fit, or arguments of the other kind.
    """

    def __init__(
        self,
        kind: Literal["lstm", "gru"],
        ih: Matrix,
        hh: Matrix,
        bias: np.ndarray,
        stages: Sequence[Sequence[Stage]] = (),
        *,
        slope: float = 0.0,
        hidden_bias: np.ndarray | None = None,
    ) -> None:
        self.kind = kind
        self.input_size, self.hidden_size = ih.columns, hh.columns
        _check_kind(kind, stages, hidden_bias)
        gates = [[*gate] for gate in stages] or [[] for _ in range(GATES[kind])]
        widths = [_checked_width(gate, self.hidden_size) for gate in gates]
        _check_rows(ih, hh, sum(widths))
        bias = array_of_shape("bias", bias, np.float32, (ih.rows,))
        if hidden_bias is not None:
            shape = (self.hidden_size,)
            hidden_bias = array_of_shape("hidden_bias", hidden_bias, np.float32, shape)
        prepared = [[(matrix.prepared, np.array(d)) for matrix, d in gate] for gate in gates]
        self._layer = ih.path.Recurrent(
            kind, ih.prepared, hh.prepared, bias, hidden_bias, prepared, slope
        )

    def run(
        self,
        x: np.ndarray,
        lengths: np.ndarray | None = None,
        h: np.ndarray | None = None,
        c: np.ndarray | None = None,
        reverse: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Run through whole sequences. No argument is modified.

        Args:
            x: (batch, time, input) float32.
            lengths: (batch,) integers from 0 to time, or None if all sequences fill `time`.
            h: first hidden state, (batch, hidden) float32; zeros if None.
            c: first cell state, (batch, hidden) float32; zeros if None.
            reverse: read each sequence from its last step to its first.

        Returns:
            outputs: (batch, time, hidden); zeros in the padding.
            h: (batch, hidden) after each sequence's last step, read in its direction.
            c: (batch, hidden), or None for "gru".

        Raises:
            TypeError: a wrong dtype.
            ValueError: shapes or lengths that do not fit.
        """
        x = array("x", x, (np.float32,), 3)
        batch, time, width = x.shape
        if width != self.input_size:
            raise ValueError(f"x has {width} features, but the layer reads {self.input_size}")
        lengths = _checked_lengths(lengths, batch, time)
        h = self._first_state("h", h, batch)
        c = self._first_state("c", c, batch) if self.kind == "lstm" else None
        outputs = np.empty((batch, time, self.hidden_size), np.float32)
        self._layer.run(x, lengths, h, c, outputs, reverse)
        return outputs, h, c

    def step(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Advance one step. No argument is modified.

        Args:
            x: (batch, input) float32.
            h: hidden state, (batch, hidden) float32.
            c: cell state, (batch, hidden) float32.

        Returns:
            The next hidden and cell state.

        Raises:
            TypeError: a wrong dtype.
            ValueError: shapes that do not fit.
        """
        try:
            return self._unchecked_step(x, h, c)
        except (AttributeError, TypeError, ValueError):
            # Looked at only now: checks take longer than a small layer's step.
            return self._unchecked_step(*self._step_arguments(x, h, c))

    def _unchecked_step(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        # Takes half the time of np.empty_like.
        new_h = np.empty(h.shape, _FLOAT)
        new_c = None if c is None else np.empty(h.shape, _FLOAT)
        self._layer.step(x, h, c, new_h, new_c)
        return new_h, new_c

    def _step_arguments(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """What `step` was given, contiguous, after all checks."""
        x = array("x", x, (np.float32,), 2)
        if x.shape[1] != self.input_size:
            raise ValueError(f"x has {x.shape[1]} features, but the layer reads {self.input_size}")
        state = (len(x), self.hidden_size)
        h = array_of_shape("h", h, np.float32, state)
        if self.kind == "gru":
            if c is not None:
                raise ValueError("a GRU has no cell state, but c was given")
            return x, h, None
        return x, h, array_of_shape("c", c, np.float32, state)

    def _first_state(self, name: str, state: np.ndarray | None, batch: int) -> np.ndarray:
        shape = (batch, self.hidden_size)
        if state is None:
            return np.zeros(shape, np.float32)
        return array_of_shape(name, state, np.float32, shape).copy()


def _check_kind(
    kind: str, stages: Sequence[Sequence[Stage]], hidden_bias: np.ndarray | None
) -> None:
    if kind not in GATES:
        raise ValueError(f'kind must be "lstm" or "gru", got {kind!r}')
    if (kind == "gru") != (hidden_bias is not None):
        raise ValueError('hidden_bias is needed for "gru", and for nothing else')
    if stages and (kind == "gru" or len(stages) != GATES[kind]):
        raise ValueError(f"stages must be empty or, for an lstm, 4 lists, got {len(stages)}")


def _checked_width(gate: Sequence[Stage], hidden: int) -> int:
    """Rows that a gate takes of the first stage, after a check that its stages fit together."""
    width = gate[0][0].columns if gate else hidden
    rows = width
    for matrix, bias in gate:
        if matrix.columns != rows:
            raise ValueError(
                f"a stage of {rows} rows is followed by one of {matrix.columns} columns"
            )
        array_of_shape("bias of a stage", bias, np.float32, (matrix.rows,))
        rows = matrix.rows
    if rows != hidden:
        raise ValueError(
            f"the last stage of a gate has {rows} rows, but the layer's width is {hidden}"
        )
    return width


def _check_rows(ih: Matrix, hh: Matrix, rows: int) -> None:
    if ih.rows != rows or hh.rows != rows:
        raise ValueError(f"ih and hh must have {rows} rows, got {ih.rows} and {hh.rows}")


def _checked_lengths(lengths: np.ndarray | None, batch: int, time: int) -> np.ndarray:
    if lengths is None:
        return np.full(batch, time, np.int64)
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or not np.issubdtype(lengths.dtype, np.integer):
        raise ValueError(f"lengths must be {batch} integers, got {lengths!r}")
    if ((lengths < 0) | (lengths > time)).any():
        raise ValueError(f"lengths must lie in 0 to {time} (time), got {lengths.tolist()}")
    return lengths.astype(np.int64)
