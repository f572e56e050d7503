"""Weights of torch modules with the connections that are kept."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from growprune.export.layouts import Weight


class Parameters:
    """The weights of a module, by what decides which of their connections are kept.

    That is, in this order: the mask given for a parameter, the mask that `torch.nn.utils.prune`
    keeps beside it, its zeros if they stand for pruned connections, or else all of it.

    Args:
        module: whose parameters the masks name.
        masks: bool, in the parameters' shapes, by name.
        zeros_are_pruned: whether a zero in a weight without a mask is a pruned connection.

    Raises:
        ValueError: a mask names no parameter or does not fit it.
    """

    def __init__(
        self,
        module: nn.Module,
        masks: Mapping[str, Tensor] | None = None,
        zeros_are_pruned: bool = False,
    ) -> None:
        self._zeros_are_pruned = zeros_are_pruned
        self._masks: dict[Tensor, Tensor] = {}
        self._unused: dict[Tensor, str] = {}
        named = dict(module.named_parameters(remove_duplicate=False))
        for name, mask in (masks or {}).items():
            if name not in named:
                raise ValueError(f"a mask is given for {name!r}, which is no parameter")
            if mask.dtype != torch.bool or mask.shape != named[name].shape:
                raise ValueError(
                    f"the mask of {name!r} must be bool of shape {tuple(named[name].shape)}, "
                    f"got {mask.dtype} of shape {tuple(mask.shape)}"
                )
            # Tied parameters have several names; the mask holds for all of them.
            self._masks[named[name]] = mask.detach().cpu()
            self._unused[named[name]] = name

    def tensor(self, module: nn.Module, leaf: str) -> tuple[Tensor, Tensor]:
        """A weight in float32 and its mask, zero where not active, both in the weight's shape.

        Args:
            module: the layer.
            leaf: the weight's name in it.

        Raises:
            ValueError: the weight is not finite.
        """
        tensor = _original(module, leaf).detach().float().cpu()
        mask = self._mask(module, leaf, tensor)
        tensor = torch.where(mask, tensor, 0.0)
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"{leaf} of {type(module).__name__} is not finite and cannot be packed"
            )
        return tensor, mask

    def weight(self, module: nn.Module, leaf: str) -> Weight:
        """The same for a matrix."""
        return as_weight(*self.tensor(module, leaf))

    def check_all_used(self) -> None:
        """Raise ValueError if a mask is of a parameter that was not asked for."""
        if self._unused:
            raise ValueError(
                f"masks are given for {list(self._unused.values())}, but these parameters are not "
                "weights of layers that the output depends on; leave their masks out"
            )

    def _mask(self, module: nn.Module, leaf: str, tensor: Tensor) -> Tensor:
        original = _original(module, leaf)
        self._unused.pop(original, None)
        given = self._masks.get(original)
        if given is not None:
            return given
        kept = getattr(module, f"{leaf}_mask", None)
        if kept is not None:
            return kept.detach().cpu().bool()
        return tensor != 0 if self._zeros_are_pruned else torch.ones_like(tensor, dtype=torch.bool)


def as_weight(values: Tensor, mask: Tensor) -> Weight:
    """A matrix for the packed file, `(rows, everything else)`."""
    return Weight(
        np.ascontiguousarray(values.flatten(1).numpy(), np.float32),
        np.ascontiguousarray(mask.flatten(1).numpy()),
    )


def vector(tensor: Tensor | None, size: int, default: float = 0.0) -> np.ndarray:
    """A vector for the packed file, `(size,)` float32; the default throughout if there is none."""
    if tensor is None:
        return np.full(size, default, np.float32)
    return tensor.detach().float().cpu().numpy()


def _original(module: nn.Module, leaf: str) -> Tensor:
    """The parameter, which `torch.nn.utils.prune` keeps under another name."""
    return getattr(module, f"{leaf}_orig" if hasattr(module, f"{leaf}_mask") else leaf)
