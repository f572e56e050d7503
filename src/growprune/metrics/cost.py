"""What a network costs to keep and to run: weights and floating-point operations."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """One weight matrix (or convolution) of a network and how often it is used.

    Attributes:
        name: the weight's name in the model.
        weights: connections when dense.
        active: connections kept.
        uses: products with the whole matrix per unit of what the network is used for, such as a
            second of audio or a caption; 0 for weights that take part in no product, such as
            biases, norms and tables of embeddings.
        recurrent: whether it belongs to the recurrent cells.
    """

    name: str
    weights: int
    active: int
    uses: float
    recurrent: bool


def totals(operations: Iterable[Operation], unit: str) -> dict[str, dict[str, float]]:
    """Weights and FLOPs per unit of use: recurrent cells, whole model, kept and dense.

    A weight is an active connection, a bias or a norm's parameter. A product costs two FLOPs per
    active connection and use; activations and norms are not counted.

    Args:
        operations: all the network's.
        unit: what their uses are counted per, "second" or "caption".
    """
    rows = list(operations)
    cells = [row for row in rows if row.recurrent]
    return {
        "weights": {
            "recurrent": sum(row.active for row in cells),
            "whole": sum(row.active for row in rows),
            "recurrent_dense": sum(row.weights for row in cells),
            "whole_dense": sum(row.weights for row in rows),
        },
        f"flops_per_{unit}": {
            "recurrent": sum(2 * row.active * row.uses for row in cells),
            "whole": sum(2 * row.active * row.uses for row in rows),
            "recurrent_dense": sum(2 * row.weights * row.uses for row in cells),
            "whole_dense": sum(2 * row.weights * row.uses for row in rows),
        },
    }
