"""Optimizers step over the active connections alone, lent to them as vectors.

An optimizer that treats every element by itself finds the active connections of a sparse matrix
side by side: a vector stands in the matrix's place while it steps, others in that of what it
remembers. Dormant connections then cost nothing, and stay the zeros that they are.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, optim
from torch.autograd.graph import increment_version
from torch.nn import Parameter
from torch.optim import Optimizer

from growprune.native.training import ActiveConnections, training_engine, training_kernels
from growprune.sparsity.masks import MaskedMatrix

LENT_BELOW = 0.5
"""Density under which a matrix's active connections are lent."""
ELEMENTWISE = (
    optim.Adadelta,
    optim.Adagrad,
    optim.Adam,
    optim.Adamax,
    optim.AdamW,
    optim.ASGD,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
    optim.SGD,
)
"""Optimizers to which the elements of a parameter are nothing to each other."""

Copy = tuple[ActiveConnections, Tensor, Tensor]
"""A matrix, and a vector of its active connections, row after row."""


class Lender:
    """Lends an optimizer the active connections of matrices.

    Args:
        matrices: of the optimizer's parameters.
        optimizer: of any kind; only elementwise ones are lent anything.
    """

    def __init__(self, matrices: Sequence[MaskedMatrix], optimizer: Optimizer) -> None:
        self._matrices = matrices
        self._optimizer = optimizer
        self._loans: dict[str, _Loan] = {}

    @contextmanager
    def lend(self) -> Iterator[list[MaskedMatrix]]:
        """Let the optimizer hold vectors in place of matrices; gives the matrices that it keeps.

        A matrix is lent where nobody else has written to its weights or to what the optimizer
        remembers of them since `keep`: what is dormant is still zero then.
        """
        lent = {name: loan for name, loan in self._loans.items() if loan.is_due()}
        _copy("gather", [copy for loan in lent.values() for copy in loan.begin()])
        try:
            for loan in lent.values():
                _replace(self._optimizer, loan.parameter, loan.stand_in)
            yield [matrix for matrix in self._matrices if matrix.name not in lent]
        finally:
            for loan in lent.values():
                _replace(self._optimizer, loan.stand_in, loan.parameter)
                loan.take_back()
        _copy("scatter", [copy for loan in lent.values() for copy in loan.copies()])
        for loan in lent.values():
            loan.end()

    def keep(self) -> None:
        """Note matrices as they are now, zero where dormant."""
        for matrix in self._matrices:
            active = matrix.noted
            loan = self._loans.get(matrix.name)
            if active is None or not _may_lend(active, matrix.parameter, self._optimizer):
                self._loans.pop(matrix.name, None)
            elif loan is None or loan.active is not active:
                self._loans[matrix.name] = _Loan(matrix, active, self._optimizer)
            else:
                loan.keep()


class _Loan:
    """The active connections of one matrix, and what the optimizer remembers of them, as vectors.

    Attributes:
        parameter: the matrix.
        active: its active connections.
        stand_in: what the optimizer gets in its place.
    """

    def __init__(
        self, matrix: MaskedMatrix, active: ActiveConnections, optimizer: Optimizer
    ) -> None:
        self._matrix = matrix
        self.parameter = matrix.parameter
        self.active = active
        self.stand_in = Parameter(matrix.parameter.new_empty(matrix.connections))
        self.stand_in.grad = torch.empty_like(self.stand_in, requires_grad=False)
        self._optimizer = optimizer
        self._vectors: dict[str, Tensor] = {}  # of what the optimizer remembers
        self._matrices: dict[str, Tensor] = {}  # that, as long as it is kept
        self._versions: list[int] = []  # of the parameter and of these
        self._is_current = False  # whether the vectors hold what the matrices do
        self.keep()

    def is_due(self) -> bool:
        """Whether the optimizer can have the vectors now."""
        gradient = self.parameter.grad
        return (
            self._matrix.noted is self.active
            and gradient is not None
            and _is_plain(gradient)
            and self._is_kept()
            and [*map(id, self._matrices.values())] == [*map(id, self._remembered().values())]
        )

    def keep(self) -> None:
        """Note what the optimizer remembers, and what has been written until now."""
        if not self._is_kept():
            self._is_current = False
            self._note()

    def begin(self) -> Iterator[Copy]:
        """Give the optimizer its memory of the vectors, and what is to be copied to them."""
        assert self.parameter.grad is not None
        assert self.stand_in.grad is not None
        for name, matrix in self._matrices.items():
            if name not in self._vectors:
                self._vectors[name] = matrix.new_empty(len(self.stand_in))
        if state := self._state():
            own = {name: self._vectors[name] for name in self._matrices}
            self._optimizer.state[self.stand_in] = {**state, **own}
        gradient = self.active.active_elements(self.parameter.grad)
        if gradient is None:
            yield self.active, self.parameter.grad, self.stand_in.grad
        else:
            self.stand_in.grad.copy_(gradient)
        # Weights are often written to by way of their `data`, which leaves no trace.
        yield from itertools.islice(self.copies(), 1 if self._is_current else None)

    def take_back(self) -> None:
        """Take over what the optimizer has come to remember of the vectors."""
        for name, value in self._optimizer.state.pop(self.stand_in, {}).items():
            if isinstance(value, Tensor) and value.shape == self.stand_in.shape:
                self._vectors[name] = value
                if name not in self._matrices:
                    self._matrices[name] = torch.zeros_like(self.parameter, requires_grad=False)
                value = self._matrices[name]
            self._optimizer.state[self.parameter][name] = value

    def copies(self) -> Iterator[Copy]:
        """The matrices, with their vectors."""
        yield self.active, self.parameter, self.stand_in
        for name, matrix in self._matrices.items():
            yield self.active, matrix, self._vectors[name]

    def end(self) -> None:
        """Note that the matrices have been written to."""
        self.active.forget_gradient()
        increment_version([self.parameter, *self._matrices.values()])
        self._note()
        self._is_current = True

    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = self._optimizer.state.get(self.parameter, {})
        return found

    def _remembered(self) -> dict[str, Tensor]:
        """What the optimizer remembers of each connection, in the parameter's shape."""
        shape = self.parameter.shape
        return {
            name: value
            for name, value in self._state().items()
            if isinstance(value, Tensor) and value.shape == shape
        }

    def _note(self) -> None:
        self._matrices = self._remembered()
        tensors = [self.parameter, *self._matrices.values()]
        self._versions = [t._version for t in tensors] if all(map(_is_plain, tensors)) else []

    def _is_kept(self) -> bool:
        return self._versions == [t._version for t in (self.parameter, *self._matrices.values())]


def _may_lend(active: ActiveConnections, parameter: Tensor, optimizer: Optimizer) -> bool:
    return (
        type(optimizer) in ELEMENTWISE
        and 0 < active.density <= LENT_BELOW
        and _is_plain(parameter)
        and training_engine() == "native"
        and not (optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether the kernels can copy from and to the tensor."""
    return (
        tensor.dtype == torch.float32
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
    )


def _replace(optimizer: Optimizer, old: Tensor, new: Tensor) -> None:
    """Let the optimizer hold another tensor in a parameter's place."""
    for group in optimizer.param_groups:
        group["params"][:] = [new if held is old else held for held in group["params"]]


def _copy(direction: str, copies: Sequence[Copy]) -> None:
    """Copy active connections from matrices to vectors ("gather"), or back ("scatter")."""
    if copies:
        kernels, _ = training_kernels()
        getattr(kernels, direction)(
            [(active.indices, *(t.numpy(force=True) for t in both)) for active, *both in copies],
            torch.get_num_threads(),
        )
