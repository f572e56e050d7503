"""What the loop needs of a task; it knows no more about speech or captions than this."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from growprune.training.recipe import Recipe

Batch = Any
"""One step's tensors; only the task looks inside."""


class Task(Protocol):
    """A model with its data, loss and metric.

    Everything is a function of its arguments and the seed the task was built with, so that an
    interrupted run can be repeated from any step.
    """

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        ...

    @property
    def metric(self) -> str:
        """Key, among `evaluate`'s results, of the figure that decides."""
        ...

    @property
    def mode(self) -> str:
        """`min` where a lower metric is better, else `max`."""
        ...

    @property
    def extras(self) -> Mapping[str, Any]:
        """What else the model needs to be used, such as a vocabulary; JSON types only."""
        ...

    def build_model(self) -> torch.nn.Module:
        """A new model; weights drawn from torch's global generator."""
        ...

    def batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """The epoch's batches as example numbers, in order."""
        ...

    def load(self, examples: Sequence[int], epoch: int) -> Batch:
        """The examples' tensors, augmented as this epoch wants it."""
        ...

    def describe(self, examples: Sequence[int]) -> str:
        """The examples' names, for error messages."""
        ...

    def loss(self, model: torch.nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
        """The mean training loss, a scalar."""
        ...

    def evaluate(
        self, model: torch.nn.Module, split: str, device: torch.device
    ) -> dict[str, float]:
        """Metrics of a split, among them `loss` and the task's `metric`."""
        ...

    def cost(
        self, model: torch.nn.Module, masks: Mapping[str, torch.Tensor]
    ) -> dict[str, dict[str, float]]:
        """`weights` and FLOPs of the model with these connections, as the record keeps them."""
        ...

    def data_summary(self) -> dict[str, Any]:
        """Name and size of every split, as the record keeps them."""
        ...
