"""What `growprune.tasks.distillation` is where recognisers learn from recognisers."""

import math
from typing import Any

import torch

from growprune.tasks import distillation
from growprune.tasks.distillation import Teachers, check_same
from growprune.tasks.speech.model import SpeechModel, valid_frames
from growprune.tasks.speech.recognizer import Recognizer
from growprune.tasks.speech.settings import SpeechRecipe


def open_teachers(recipe: SpeechRecipe) -> Teachers:
    """The recognisers that a recipe names as its teachers.

    Raises:
        CheckpointError: a folder does not hold a finished run.
        RecipeError: a run's features, letters or output frames are not the recipe's.
    """

    def load(folder: str) -> SpeechModel:
        teacher = Recognizer.from_run(folder)
        check_same(folder, _ways(teacher.recipe), _ways(recipe))
        return teacher.model

    return Teachers(recipe.loss.teachers, load)


def agreement(
    teachers: Teachers, features: torch.Tensor, lengths: torch.Tensor, temperature: float
) -> torch.Tensor:
    """What recognisers agree on, of every output frame.

    Args:
        teachers: what `open_teachers` gives.
        features: `(batch, time, bands)`, padded.
        lengths: `(batch,)` valid frames, on the CPU.
        temperature: see `growprune.tasks.distillation.agreement`.

    Returns:
        Log-probabilities `(batch, output time, symbols)`, without gradient.
    """
    heard = teachers.answers(features, lengths)
    return distillation.agreement([log_probs for log_probs, _ in heard], temperature)


def divergence(
    student: torch.Tensor, teachers: torch.Tensor, lengths: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How far a student's distributions are from its teachers', in nats per utterance.

    It is `growprune.tasks.distillation.divergence`, summed over an utterance's frames. CTC takes
    frames as independent, so at temperature 1 the sum is the divergence between distributions over
    whole paths, in the unit of the CTC loss.

    Args:
        student: Log-probabilities `(batch, output time, symbols)`.
        teachers: What `agreement` gives, the same shape.
        lengths: `(batch,)` valid output frames.
        temperature: As given to `agreement`.

    Returns:
        `(batch,)`, differentiable in `student`.
    """
    frames = distillation.divergence(student, teachers, temperature)
    return (frames * valid_frames(lengths, student)).sum(-1)


def _ways(recipe: SpeechRecipe) -> dict[str, Any]:
    """What decides the meaning of a model's inputs and outputs."""
    strides = [block.stride[-1] for block in recipe.model.front_end.convolutions]
    features = recipe.data.features.model_dump().items()
    return {f"data.features.{key}": value for key, value in features} | {
        "data.letters": recipe.data.letters,
        "number of feature frames per output frame": math.prod(strides),
    }
