"""An LSTM layer's weights, thinned out, and its equations in NumPy."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from growprune import native

Array = np.ndarray


@dataclass(frozen=True)
class LstmWeights:
    """Weights of one layer in torch's order of gates: i, f, g, o.

    Attributes:
        ih: `(4 hidden, input)`.
        hh: `(4 hidden, hidden)`.
        bias: `(4 hidden,)`, the sum of both biases.
    """

    ih: Array
    hh: Array
    bias: Array

    @classmethod
    def random(cls, width: int, kept: float, block_rows: int, rng: np.random.Generator) -> Self:
        """Random weights, as many inputs as units, of which a share is kept and the others are 0.

        Args:
            width: inputs and units.
            kept: share of the connections.
            block_rows: 1 to keep single weights, 16 to keep blocks of 16 rows by 1 column.
            rng: source of weights and connections.
        """
        # The sums stay about as large at every density, and so do the gates.
        scale = 1 / np.sqrt(width * kept)
        ih, hh = (
            rng.uniform(-scale, scale, (4 * width, width)).astype(np.float32)
            * _mask((4 * width, width), kept, block_rows, rng)
            for _ in range(2)
        )
        return cls(ih, hh, rng.uniform(-0.1, 0.1, 4 * width).astype(np.float32))

    @property
    def hidden(self) -> int:
        """Units."""
        return self.hh.shape[1]

    @property
    def active(self) -> int:
        """Connections that are not 0."""
        return int(np.count_nonzero(self.ih) + np.count_nonzero(self.hh))

    def run(self, x: Array, h: Array, c: Array) -> Array:
        """The specification: outputs `(time, hidden)` of `x (time, input)` from a state."""
        outputs = []
        for row in x:
            i, f, g, o = np.split(self.ih @ row + self.hh @ h + self.bias, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return np.stack(outputs)

    def recurrent(self, layout: str) -> tuple[native.Recurrent, int]:
        """The layer on growprune's kernels, and the bytes of its weights.

        Args:
            layout: `dense`, `csr` or `blocks`.
        """
        ih, hh = (matrix_of(weight, layout) for weight in (self.ih, self.hh))
        return native.Recurrent("lstm", ih, hh, self.bias), ih.nbytes + hh.nbytes


def matrix_of(weight: Array, layout: str) -> native.Matrix:
    """A prepared matrix that stores what is not 0 of `weight (rows, columns)`."""
    if layout == "dense":
        return native.dense(weight)
    if layout == "csr":
        rows, columns = np.nonzero(weight)
        return native.csr(
            _starts(rows, len(weight)),
            columns.astype(np.int32),
            weight[rows, columns],
            weight.shape,
        )
    padded = np.pad(weight, ((0, -len(weight) % native.PANEL), (0, 0)))
    panels = padded.reshape(-1, native.PANEL, weight.shape[1]).transpose(2, 0, 1)
    columns, found = np.nonzero(panels.any(axis=2))
    return native.blocks(
        _starts(columns, weight.shape[1]),
        found.astype(np.int32),
        np.ascontiguousarray(panels[columns, found]),
        weight.shape,
    )


def sigmoid(x: Array) -> Array:
    """`1 / (1 + exp(-x))`."""
    return 1 / (1 + np.exp(-x))


def _mask(shape: tuple[int, int], kept: float, block_rows: int, rng: np.random.Generator) -> Array:
    """Ones for exactly the kept share, rounded to whole blocks."""
    blocks = shape[0] // block_rows * shape[1]
    mask = np.zeros(blocks, np.float32)
    mask[rng.permutation(blocks)[: round(kept * blocks)]] = 1
    return mask.reshape(-1, shape[1]).repeat(block_rows, axis=0)


def _starts(groups: Array, count: int) -> Array:
    """Where each group begins among entries sorted by group, and where the last one ends."""
    return np.searchsorted(groups, np.arange(count + 1)).astype(np.int32)
