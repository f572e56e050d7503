"""Learning from finished runs as well as from data: what all tasks share of it.

After Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch.nn import functional as F

from growprune.errors import RecipeError
from growprune.files import sha256
from growprune.settings import Settings
from growprune.training import read_record


class DistillSettings(Settings):
    """What a recipe's `[loss]` says of its teachers."""

    teachers: tuple[str, ...] = ()
    """Folders of finished runs, relative to where the command is given, whose models read and write
    the same as this recipe's."""
    distill: NonNegativeFloat = 0.0
    """Factor of the divergence from the teachers, see `divergence`."""
    temperature: PositiveFloat = 1.0
    """What logarithms of probabilities are divided by, on both sides, for the divergence."""

    @model_validator(mode="after")
    def _teachers_have_weight(self) -> "DistillSettings":
        if bool(self.teachers) != (self.distill > 0):
            raise ValueError(
                f"distill is {self.distill:g} and teachers are {list(self.teachers)}; give a "
                "factor above 0 and at least one teacher, or neither"
            )
        return self


class Teachers:
    """Finished runs that another learns from; they never change.

    Loading them draws nothing from torch's global generator.

    Args:
        folders: the runs'.
        load: gives a run's model, ready for use, or says why it cannot teach.

    Attributes:
        models: in the order of the folders.
        summary: every run's folder with the SHA-256 of its weights, as the record keeps them.

    Raises:
        CheckpointError: a folder does not hold a finished run.
    """

    def __init__(self, folders: Sequence[str], load: Callable[[str], torch.nn.Module]) -> None:
        with torch.random.fork_rng(devices=[]):
            self.models = [load(folder) for folder in folders]
        self.summary = [_summary(folder) for folder in folders]

    def answers(self, *inputs: torch.Tensor) -> list[Any]:
        """What every model gives for the same inputs, on the device of the first one."""
        models = [model.to(inputs[0].device) for model in self.models]
        with torch.inference_mode():
            return [model(*inputs) for model in models]


def check_same(folder: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Check that a teacher's model means the same by its inputs and outputs as the recipe's.

    Args:
        folder: the teacher's.
        theirs: what decides that, by name.
        ours: the same of the recipe, compared in this order.

    Raises:
        RecipeError: the first that differs.
    """
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise RecipeError(
                f"teacher {folder}: its {key} is {theirs.get(key)!r}, the recipe's {value!r}; "
                "name another run or change the recipe"
            )


def agreement(scores: Sequence[torch.Tensor], temperature: float) -> torch.Tensor:
    """What teachers agree on: the logarithm of the mean of their distributions.

    Args:
        scores: of every teacher, logits or log-probabilities `(..., symbols)`.
        temperature: divides them before they are exponentiated.

    Returns:
        Log-probabilities `(..., symbols)`.
    """
    tempered = [_tempered_log_probs(rows, temperature) for rows in scores]
    return reduce(torch.logaddexp, tempered) - math.log(len(tempered))


def divergence(student: torch.Tensor, teachers: torch.Tensor, temperature: float) -> torch.Tensor:
    """How far a student's distributions are from its teachers', in nats.

    The Kullback-Leibler divergence `sum p (ln p - ln q)` of the teachers' p and the student's q,
    times the temperature's square, which keeps gradients as large as at temperature 1.

    Args:
        student: logits or log-probabilities `(..., symbols)`.
        teachers: what `agreement` gives at this temperature, the same shape.
        temperature: divides the student's as well.

    Returns:
        `(...)`, differentiable in `student`.
    """
    q = _tempered_log_probs(student, temperature)
    return temperature**2 * F.kl_div(q, teachers, reduction="none", log_target=True).sum(-1)


def _tempered_log_probs(scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log-probabilities `(..., symbols)`, flatter the higher the temperature."""
    return (scores / temperature).log_softmax(-1)


def _summary(folder: str) -> dict[str, str]:
    read_record(Path(folder))  # weights alone may be of a run that is still under way
    return {"run": folder, "weights_sha256": sha256(Path(folder) / "weights.safetensors")}
