"""The kernels in NumPy: what every other path must compute, and the fallback without a compiler.

Sparse matrices are multiplied in their dense form. That is plainly right, and NumPy has nothing
faster; it costs the memory of the dense matrix.
"""

from collections.abc import Sequence

import numpy as np

PANEL = 16
"""Rows of a block in the layout "blocks"."""


def dense(values: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """The matrix in float32, (rows, columns)."""
    return _scaled(values.astype(np.float32), scales)


def csr(
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    scales: np.ndarray | None,
) -> np.ndarray:
    """The matrix in float32, (rows, columns), from compressed sparse rows."""
    weight = np.zeros(shape, np.float32)
    rows = np.repeat(np.arange(shape[0]), np.diff(starts))
    np.add.at(weight, (rows, columns), values)
    return _scaled(weight, scales)


def blocks(
    starts: np.ndarray,
    panels: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    scales: np.ndarray | None,
) -> np.ndarray:
    """The matrix in float32, (rows, columns), from 16x1 blocks by column."""
    rows, columns = shape
    by_panel = np.zeros((-(-rows // PANEL), columns, PANEL), np.float32)
    column_of_block = np.repeat(np.arange(columns), np.diff(starts))
    np.add.at(by_panel, (panels, column_of_block), values)
    weight = by_panel.transpose(0, 2, 1).reshape(-1, columns)
    return _scaled(weight[:rows], scales)


def product(weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Write x @ weight.T to y."""
    np.matmul(x, weight.T, out=y)


class Recurrent:
    """One recurrent layer in one direction; `growprune.native.Recurrent` gives the formulas."""

    def __init__(
        self,
        kind: str,
        ih: np.ndarray,
        hh: np.ndarray,
        bias: np.ndarray,
        hidden_bias: np.ndarray | None,
        stages: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
        slope: float,
    ) -> None:
        self._kind = kind
        self._ih, self._hh, self._bias, self._hidden_bias = ih, hh, bias, hidden_bias
        self._stages, self._slope = stages, slope

    def run(
        self,
        x: np.ndarray,
        lengths: np.ndarray,
        h: np.ndarray,
        c: np.ndarray | None,
        outputs: np.ndarray,
        reverse: bool,
    ) -> None:
        """Advance h and c in place through x, and write each step's hidden state to outputs."""
        outputs[:] = 0
        for t in range(x.shape[1]):
            alive = np.flatnonzero(t < lengths)
            place = lengths[alive] - 1 - t if reverse else t
            before = None if c is None else c[alive]
            outputs[alive, place], after = self._advance(x[alive, place], h[alive], before)
            h[alive] = outputs[alive, place]
            if c is not None:
                c[alive] = after

    def step(
        self,
        x: np.ndarray,
        h: np.ndarray,
        c: np.ndarray | None,
        new_h: np.ndarray,
        new_c: np.ndarray | None,
    ) -> None:
        """Write the states that follow h and c.

        Raises:
            ValueError: shapes or dtypes do not fit.
        """
        self._check_step(x, h, c)
        new_h[:], next_c = self._advance(x, h, c)
        if new_c is not None:
            new_c[:] = next_c

    def _check_step(self, x: np.ndarray, h: np.ndarray, c: np.ndarray | None) -> None:
        states = [h, c] if self._kind == "lstm" else [h]
        if (c is None) == (self._kind == "lstm"):
            raise ValueError("an LSTM has a cell state, and a GRU has none")
        widths = [self._ih.shape[1], *(self._hh.shape[1] for _ in states)]
        for array, width in zip((x, *states), widths, strict=True):
            if array.dtype != np.float32 or array.shape != (len(x), width):
                raise ValueError("shapes or dtypes do not fit")

    def _advance(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return (self._gru(x, h), None) if c is None else self._lstm(x, h, c)

    def _lstm(self, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = x @ self._ih.T + h @ self._hh.T + self._bias
        ends = np.cumsum([_first_width(gate, h.shape[1]) for gate in self._stages])
        i, f, g, o = (
            self._later_stages(z, gate)
            for z, gate in zip(np.split(first, ends[:-1], axis=1), self._stages, strict=True)
        )
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return _sigmoid(o) * np.tanh(c), c

    def _later_stages(
        self, z: np.ndarray, stages: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        for weight, bias in stages:
            z = _leaky_relu(z, self._slope) @ weight.T + bias
        return z

    def _gru(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        from_x = np.split(x @ self._ih.T + self._bias, 3, axis=1)
        from_h = np.split(h @ self._hh.T, 3, axis=1)
        r = _sigmoid(from_x[0] + from_h[0])
        z = _sigmoid(from_x[1] + from_h[1])
        n = np.tanh(from_x[2] + r * (from_h[2] + self._hidden_bias))
        return (1 - z) * n + z * h


def sigmoid(x: np.ndarray, y: np.ndarray) -> None:
    """Write 1 / (1 + exp(-x)) to y."""
    y[...] = _sigmoid(x)


def tanh(x: np.ndarray, y: np.ndarray) -> None:
    """Write the hyperbolic tangent of x to y."""
    np.tanh(x, out=y)


def leaky_relu(x: np.ndarray, slope: float, y: np.ndarray) -> None:
    """Write x where positive and slope * x elsewhere to y."""
    y[...] = _leaky_relu(x, slope)


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, y: np.ndarray
) -> None:
    """Write (x - mean) / sqrt(variance + eps) * weight + bias to y, over the last axis."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = np.square(x - mean).mean(axis=-1, keepdims=True)
    y[...] = (x - mean) / np.sqrt(variance + np.float32(eps)) * weight + bias


def log_softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Write x - log(sum(exp(x))) to y, over the last axis."""
    below = x - x.max(axis=-1, keepdims=True)
    y[...] = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))


def _scaled(weight: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    return weight if scales is None else weight * scales[:, None]


def _first_width(stages: Sequence[tuple[np.ndarray, np.ndarray]], hidden: int) -> int:
    """Rows of a gate in the first stage."""
    return stages[0][0].shape[1] if stages else hidden


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of what is at most 0 cannot overflow.
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.float32(1)) / (1 + e)


def _leaky_relu(x: np.ndarray, slope: float) -> np.ndarray:
    return np.where(x > 0, x, x * np.float32(slope))
