"""Masks: which connections of a parameter are active, and keeping the dormant ones at zero."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from growprune.sparsity.granularity import tiling


class MaskedMatrix:
    """One parameter seen as a matrix `(out, everything else)`, with the grid of its active tiles.

    Attributes:
        name: the parameter's name.
        parameter: the parameter, edited only in place.
        active: bool grid, one value per tile of the granularity.
        keep: 1 where active and 0 where dormant, in the parameter's shape and type: multiplying
            by it is the cheapest way to keep dormant connections at zero.
        connections: how many connections are active.
    """

    def __init__(self, name: str, parameter: Parameter, granularity: str) -> None:
        self.name = name
        self.parameter = parameter
        self.tiling = tiling(granularity, len(parameter), parameter[0].numel())
        self.keep = torch.ones_like(parameter, requires_grad=False)
        self.activate(torch.ones(self.tiling.grid_shape, dtype=torch.bool, device=parameter.device))

    @property
    def mask(self) -> Tensor:
        """Bool, in the parameter's shape; a new tensor."""
        return self.tiling.spread(self.active).reshape(self.parameter.shape).clone()

    @property
    def size(self) -> int:
        """How many connections there are, active or not."""
        return self.parameter.numel()

    def activate(self, active: Tensor) -> None:
        """Make exactly the tiles of the bool grid `active` active; weights are not touched."""
        self.active = active
        self.keep.copy_(self.tiling.spread(active).reshape(self.parameter.shape))
        self.connections = int(torch.count_nonzero(self.keep))

    def fits(self, mask: Tensor) -> bool:
        """Whether `mask`, in the parameter's shape, is bool and made of whole tiles."""
        if mask.shape != self.parameter.shape or mask.dtype != torch.bool:
            return False
        matrix = self._as_matrix(mask)
        return torch.equal(self.tiling.spread(self.tiling.corners(matrix)), matrix)

    def activate_mask(self, mask: Tensor) -> None:
        """Take over a mask in the parameter's shape that `fits`."""
        corners = self.tiling.corners(self._as_matrix(mask))
        self.activate(corners.to(self.parameter.device).clone())

    def tile_scores(self, scores: Tensor) -> Tensor:
        """Mean score of each tile, from scores in the parameter's shape."""
        return self.tiling.means(self._as_matrix(scores))

    def _as_matrix(self, tensor: Tensor) -> Tensor:
        return tensor.reshape(self.tiling.rows, self.tiling.columns)


def mask_gradients(matrices: Sequence[MaskedMatrix]) -> None:
    """Zero the gradients of dormant connections."""
    pairs = [(m.parameter.grad, m.keep) for m in matrices if m.parameter.grad is not None]
    _multiply([gradient for gradient, _ in pairs], [keep for _, keep in pairs])


def project(matrices: Sequence[MaskedMatrix], optimizer: Optimizer) -> None:
    """Zero the weights of dormant connections and all that the optimizer remembers of them."""
    tensors: list[Tensor] = []
    masks: list[Tensor] = []
    for matrix in matrices:
        kept = [matrix.parameter, *_memories(optimizer.state.get(matrix.parameter, {}), matrix)]
        tensors += kept
        masks += [matrix.keep] * len(kept)
    _multiply(tensors, masks)


def _memories(state: dict[str, Any], matrix: MaskedMatrix) -> list[Tensor]:
    """Every tensor of an optimizer's state that has one value per weight."""
    shape = matrix.parameter.shape
    return [value for value in state.values() if torch.is_tensor(value) and value.shape == shape]


@torch.no_grad()
def _multiply(tensors: list[Tensor], masks: list[Tensor]) -> None:
    if tensors:
        torch._foreach_mul_(tensors, masks)
