"""Masks: which connections of a parameter are active, and keeping the dormant ones at zero."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from growprune.native.training import ActiveConnections, note_active
from growprune.sparsity.granularity import tiling

SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")
"""What Adam, its kin and RMSprop call the averages whose roots they take."""


class MaskedMatrix:
    """One parameter seen as a matrix `(out, everything else)`, with the grid of its active tiles.

    Attributes:
        name: the parameter's name.
        parameter: the parameter, edited only in place.
        active: bool grid, one value per tile of the granularity.
        keep: all bits set where active and none where dormant, in the parameter's shape and
            element size; see `_clear`.
        connections: how many connections are active.
        noted: what `note` lets others know, if it was called since the mask changed.
    """

    def __init__(self, name: str, parameter: Parameter, granularity: str) -> None:
        self.name = name
        self.parameter = parameter
        self.tiling = tiling(granularity, len(parameter), parameter[0].numel())
        self.keep = torch.empty_like(parameter, dtype=_bits(parameter), requires_grad=False)
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
        self.keep.copy_(self.tiling.spread(active).reshape(self.parameter.shape)).neg_()
        self.connections = int(torch.count_nonzero(self.keep))
        self.noted: ActiveConnections | None = None

    def note(self, all_gradients: bool) -> None:
        """Let who computes with the parameter leave dormant connections out; they must be zero.

        Args:
            all_gradients: the gradients of dormant connections are wanted all the same.
        """
        if self.parameter.dim() != 2 or self.parameter.device.type != "cpu":
            return
        if self.noted is None:
            self.noted = ActiveConnections(self.mask.numpy(), all_gradients)
        self.noted.all_gradients = all_gradients
        note_active(self.parameter, self.noted)

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
    """Zero the gradients of dormant connections, unless the kernels left them at zero."""
    for matrix in _with_dormant(matrices):
        gradient = matrix.parameter.grad
        if gradient is None:
            continue
        if matrix.noted is None or matrix.noted.active_elements(gradient) is None:
            _clear(gradient, matrix.keep)


def lend_ones(matrices: Sequence[MaskedMatrix], optimizer: Optimizer) -> None:
    """Set dormant second moments to 1 while the optimizer steps; `project` zeroes them again.

    With a zero gradient and a zero first moment they make no difference, but their roots are
    taken, and on the CPU torch's root is ten times slower where zeros are strewn in. A fused
    optimizer takes them at one speed.
    """
    if all(group.get("fused") for group in optimizer.param_groups):
        return
    for matrix in _with_dormant(matrices):
        state = optimizer.state.get(matrix.parameter, {})
        for value in (state.get(name) for name in SECOND_MOMENTS):
            if value is not None and value.device.type == "cpu":
                one = int(torch.ones((), dtype=value.dtype).view(_bits(value)))
                # Active bits, where keep is -1: less a one, plus a one. Dormant: zero, plus a one.
                value.view(_bits(value)).add_(matrix.keep, alpha=one).add_(one)


def project(matrices: Sequence[MaskedMatrix], optimizer: Optimizer) -> None:
    """Zero the weights of dormant connections and all that the optimizer remembers of them."""
    for matrix in _with_dormant(matrices):
        _clear(matrix.parameter, matrix.keep)
        for value in optimizer.state.get(matrix.parameter, {}).values():
            if torch.is_tensor(value) and value.shape == matrix.parameter.shape:
                _clear(value, matrix.keep)


def _with_dormant(matrices: Sequence[MaskedMatrix]) -> list[MaskedMatrix]:
    return [matrix for matrix in matrices if matrix.connections < matrix.size]


def _clear(tensor: Tensor, keep: Tensor) -> None:
    """Zero `tensor` in place where `keep` has no bits set.

    And-ing bits costs what a multiplication by 0 and 1 does, but leaves +0 whatever was there,
    NaN included, and every other bit as it was. Filling by a bool mask took 30 times as long.
    """
    tensor.detach().view(_bits(tensor)).bitwise_and_(keep)


def _bits(tensor: Tensor) -> torch.dtype:
    """The integer type as wide as the tensor's elements."""
    widths = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return widths[tensor.element_size()]
