"""What a caption costs where products skip zeros, measured on images.

Once the gates' leaky ReLU has become a ReLU many of their hidden activations are exactly 0, and the
columns of the next matrix that they meet need not be read.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import leaky_relu, linear

from growprune.metrics import totals
from growprune.runtime.graph import GATES
from growprune.tasks.captioning.captioner import Captioner
from growprune.tasks.captioning.task import WORDS_PER_CAPTION


def measured_flops(captioner: Captioner, features: np.ndarray) -> dict[str, float]:
    """FLOPs of a caption of `WORDS_PER_CAPTION` words, as its task's `cost` counts them.

    Args:
        captioner: of a run.
        features: `(images, width)`, for which captions are written greedily.

    Returns:
        `recurrent_measured` and `whole_measured`: as `recurrent` and `whole`, but only with the
        connections that meet something else than zero behind the gates' hidden layers, on average
        over the steps taken.
    """
    shares = used_shares(captioner, features)
    operations = [
        replace(operation, uses=operation.uses * shares.get(operation.name, 1.0))
        for operation in captioner.model.operations(captioner.masks, WORDS_PER_CAPTION)
    ]
    flops = totals(operations, "caption")["flops_per_caption"]
    return {f"{part}_measured": flops[part] for part in ("recurrent", "whole")}


def used_shares(captioner: Captioner, features: np.ndarray) -> dict[str, float]:
    """Share of the active connections used, of every matrix behind a gate's hidden layer, by name.

    Args:
        captioner: of a run.
        features: `(images, width)`, for which captions are written greedily.
    """
    count = _Count(captioner)
    hook = captioner.model.recurrent.register_forward_hook(count)
    try:
        captioner.caption(features, beam=1)
    finally:
        hook.remove()
    return {name: count.used[name] / max(1, there) for name, there in count.there.items()}


class _Count:
    """Counts connections used, and those there, at every step that the recurrent layers take."""

    def __init__(self, captioner: Captioner) -> None:
        self.used: Counter[str] = Counter()
        self.there: Counter[str] = Counter()
        self._masks: Mapping[str, torch.Tensor] = captioner.masks

    def __call__(self, module: Any, given: tuple[Any, ...], result: Any) -> None:
        """The hook: a step `(rows, 1, features)` with the states before and after it."""
        x, before = given
        _, (after, _) = result
        hidden = torch.zeros_like(after) if before is None else before[0]
        inputs = [x.squeeze(1), *after[:-1]]
        for layer, (seen, h) in enumerate(zip(inputs, hidden, strict=True)):
            self._layer(module, f"_l{layer}", seen, h)

    def _layer(self, module: Any, suffix: str, x: torch.Tensor, h: torch.Tensor) -> None:
        def parameter(name: str) -> torch.Tensor:
            return getattr(module, name + suffix)

        first = linear(x, parameter("weight_ih"), parameter("bias_ih"))
        first += linear(h, parameter("weight_hh"), parameter("bias_hh"))
        widths = [gate[0] if gate else module.hidden_size for gate in module.gate_widths]
        for gate, a, stages in zip(GATES, first.split(widths, 1), module.gate_widths, strict=True):
            for stage in range(1, len(stages) + 1):
                a = leaky_relu(a, module.negative_slope)
                name = f"weight_{gate}_{stage}"
                weight = parameter(name)
                self._matrix(f"recurrent.{name}{suffix}", weight, a)
                a = linear(a, weight, parameter(f"bias_{gate}_{stage}"))

    def _matrix(self, name: str, weight: torch.Tensor, a: torch.Tensor) -> None:
        """Count the connections of `(outputs, inputs)` that read no 0 in `(rows, inputs)`."""
        active = self._masks.get(name, torch.ones_like(weight, dtype=torch.bool)).sum(0)
        self.used[name] += int(((a != 0) * active).sum())
        self.there[name] += int(len(a) * active.sum())
