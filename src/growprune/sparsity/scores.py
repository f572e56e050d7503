"""Scores: what ranks connections. Higher is kept or grown first."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from growprune.errors import TrainingError
from growprune.sparsity.distributed import average_
from growprune.sparsity.masks import MaskedMatrix

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


class Scorer:
    """Scores the tiles of some matrices, and keeps what that takes between steps.

    Args:
        matrices: whose tiles are scored.
        seed: of the random score.
    """

    def __init__(self, matrices: Sequence[MaskedMatrix], seed: int) -> None:
        self._matrices = list(matrices)
        self._generator = torch.Generator().manual_seed(seed)
        self._averages: dict[str, GradientAverage] = {}

    def follow(self, kinds: Collection[str]) -> None:
        """Average gradients for exactly these scores; those already followed go on."""
        parameters = [matrix.parameter for matrix in self._matrices]
        self._averages = {
            kind: self._averages.get(kind) or GradientAverage(parameters, kind == "momentum")
            for kind in kinds
        }

    @property
    def needs_gradients(self) -> bool:
        """Whether the gradients of dormant connections are averaged now."""
        return bool(self._averages)

    def add_gradients(self) -> None:
        """Take in the dense gradients of this step."""
        for average in self._averages.values():
            average.add()

    def restart(self) -> None:
        """Begin a new interval."""
        for average in self._averages.values():
            average.restart()

    def score(self, kind: str) -> dict[str, Tensor]:
        """Score grids by parameter name, highest for what is best kept or grown.

        Args:
            kind: "gradient", "momentum", "magnitude" or "random".

        Raises:
            TrainingError: a score is not finite, so nothing can be ranked.
        """
        if kind == "random":
            return {
                m.name: random_score(m.active.shape, self._generator).to(m.parameter.device)
                for m in self._matrices
            }
        if kind == "magnitude":
            dense = [magnitude_score(m.parameter) for m in self._matrices]
        else:
            dense = self._averages[kind].signed()
        scores = {
            m.name: m.tile_scores(average_(values).abs())
            for m, values in zip(self._matrices, dense, strict=True)
        }
        for name, score in scores.items():
            if not torch.isfinite(score).all():
                raise TrainingError(
                    f"{name}: its {kind} is not finite, so its connections cannot be ranked; "
                    "lower the learning rate or set max_grad_norm"
                )
        return scores

    def state_dict(self) -> dict[str, Any]:
        """Accumulated gradients and the state of the random numbers; copies."""
        return {
            "generator": self._generator.get_state(),
            "averages": {kind: average.state() for kind, average in self._averages.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`, following what was followed then."""
        self._generator.set_state(state["generator"].cpu())
        self.follow(state["averages"].keys())
        for kind, average in self._averages.items():
            average.restore(state["averages"][kind])


def _wide(tensor: Tensor) -> torch.dtype:
    """Half precision is too coarse to add up hundreds of gradients."""
    return torch.promote_types(tensor.dtype, torch.float32)
