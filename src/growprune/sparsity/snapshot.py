"""A copy of everything that training changes, to return to when pruning went too far."""

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from growprune.sparsity.masks import MaskedMatrix


class Snapshot(TypedDict):
    """Tensors by name, and the optimizer's state as its `state_dict` numbers it."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: dict[Any, Any]
    masks: dict[str, Tensor]


def take_snapshot(
    model: Module, optimizer: Optimizer, matrices: Sequence[MaskedMatrix]
) -> Snapshot:
    """Copy weights, buffers, optimizer state and masks."""
    return Snapshot(
        parameters={name: p.detach().clone() for name, p in model.named_parameters()},
        buffers={name: buffer.detach().clone() for name, buffer in model.named_buffers()},
        optimizer=_copied(optimizer.state_dict()["state"]),
        masks={matrix.name: matrix.mask for matrix in matrices},
    )


@torch.no_grad()
def restore_snapshot(
    snapshot: Snapshot, model: Module, optimizer: Optimizer, matrices: Sequence[MaskedMatrix]
) -> None:
    """Return to `snapshot`, in place; the optimizer's learning rates stay as they are now."""
    for name, parameter in model.named_parameters():
        parameter.copy_(snapshot["parameters"][name])
    for name, buffer in model.named_buffers():
        buffer.copy_(snapshot["buffers"][name])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": _copied(snapshot["optimizer"]), "param_groups": groups})
    for matrix in matrices:
        matrix.activate_mask(snapshot["masks"][matrix.name])


def snapshot_fits(snapshot: Snapshot, model: Module, matrices: Sequence[MaskedMatrix]) -> bool:
    """Whether names and shapes are those of this model."""
    return (
        _shapes(snapshot["parameters"]) == _shapes(dict(model.named_parameters()))
        and _shapes(snapshot["buffers"]) == _shapes(dict(model.named_buffers()))
        and _shapes(snapshot["masks"]) == {m.name: m.parameter.shape for m in matrices}
    )


def _shapes(tensors: Any) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _copied(state: dict[Any, Any]) -> dict[Any, Any]:
    """An optimizer's state with tensors of its own."""
    return {
        index: {key: v.clone() if torch.is_tensor(v) else v for key, v in values.items()}
        for index, values in state.items()
    }
