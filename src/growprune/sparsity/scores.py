"""Scores: what ranks connections. Higher is kept or grown first."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

MOMENTUM = 0.9
"""Weight of the past in the running average of gradients, as in SGD's usual momentum."""


def magnitude_score(weight: Tensor) -> Tensor:
    """|w|, in float32 or wider."""
    return weight.detach().abs().to(_wide(weight))


def random_score(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform chance, drawn on the CPU so that every device sees the same numbers."""
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float64)


class GradientAverage:
    """Average of the dense gradients, dormant connections included.

    It is signed, so gradients that only fluctuate from batch to batch cancel out; the score is
    its absolute value.

    Args:
        parameters: whose gradients are averaged.
        running: an exponential average over all steps ("momentum") instead of the plain mean
            since the last restart ("gradient").
    """

    def __init__(self, parameters: Sequence[Parameter], running: bool) -> None:
        self._parameters = list(parameters)
        self._running = running
        self._steps = 0
        self._values = [torch.zeros_like(p, dtype=_wide(p)) for p in self._parameters]

    def add(self) -> None:
        """Take in the gradients of this step; a missing gradient counts as zero."""
        self._steps += 1
        if self._running:
            torch._foreach_mul_(self._values, MOMENTUM)
        pairs = [
            (value, parameter.grad)
            for value, parameter in zip(self._values, self._parameters, strict=True)
            if parameter.grad is not None
        ]
        if pairs:
            values, gradients = zip(*pairs, strict=True)
            weight = 1 - MOMENTUM if self._running else 1.0
            torch._foreach_add_(values, gradients, alpha=weight)

    def signed(self) -> list[Tensor]:
        """The averages, one in each parameter's shape."""
        if self._running:
            return [value.clone() for value in self._values]
        return [value / max(1, self._steps) for value in self._values]

    def restart(self) -> None:
        """Begin a new interval; a running average goes on."""
        if not self._running:
            self._steps = 0
            torch._foreach_zero_(self._values)

    def state(self) -> dict[str, Any]:
        """Steps taken in and a copy of the accumulated values."""
        return {"steps": self._steps, "values": [value.clone() for value in self._values]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._steps = state["steps"]
        for own, value in zip(self._values, state["values"], strict=True):
            own.copy_(value)


def _wide(tensor: Tensor) -> torch.dtype:
    """Half precision is too coarse to add up hundreds of gradients."""
    return torch.promote_types(tensor.dtype, torch.float32)
