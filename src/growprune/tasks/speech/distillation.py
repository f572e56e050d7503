"""Learning from finished recognisers as well as from transcripts.

After Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from growprune.errors import RecipeError
from growprune.files import sha256
from growprune.tasks.speech.model import SpeechModel, valid_frames
from growprune.tasks.speech.recognizer import Recognizer
from growprune.tasks.speech.settings import SpeechRecipe


class Teachers:
    """The runs that a recipe names as its teachers; they never change.

    Loading them draws nothing from torch's global generator.

    Raises:
        CheckpointError: a folder does not hold a finished run.
        RecipeError: a run's features, letters or output frames are not the recipe's.
    """

    def __init__(self, recipe: SpeechRecipe) -> None:
        folders = recipe.loss.teachers
        with torch.random.fork_rng(devices=[]):
            self.models = [_model(folder, recipe) for folder in folders]
        self.summary = [
            {"run": folder, "weights_sha256": sha256(Path(folder) / "weights.safetensors")}
            for folder in folders
        ]

    def log_probs(
        self, features: torch.Tensor, lengths: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """What they agree on: the logarithm of the mean of their distributions.

        Args:
            features: `(batch, time, bands)`, padded.
            lengths: `(batch,)` valid frames, on the CPU.
            temperature: divides every teacher's logarithms before they are exponentiated.

        Returns:
            `(batch, output time, symbols)`, without gradient.
        """
        with torch.no_grad():
            found = [model.to(features.device)(features, lengths)[0] for model in self.models]
            tempered = torch.stack([tempered_log_probs(x, temperature) for x in found])
            return tempered.logsumexp(0) - math.log(len(found))


def divergence(
    student: torch.Tensor, teachers: torch.Tensor, lengths: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How far a student's distributions are from its teachers', in nats per utterance.

    The Kullback-Leibler divergence `sum p (ln p - ln q)` of the teachers' p and the student's q,
    summed over an utterance's frames, times the temperature's square, which keeps gradients as
    large as at temperature 1. CTC takes frames as independent, so at temperature 1 the sum is the
    divergence between distributions over whole paths, in the unit of the CTC loss.

    Args:
        student: Log-probabilities `(batch, output time, symbols)`.
        teachers: What `Teachers.log_probs` gives, the same shape.
        lengths: `(batch,)` valid output frames.
        temperature: As given to `Teachers.log_probs`.

    Returns:
        `(batch,)`, differentiable in `student`.
    """
    q = tempered_log_probs(student, temperature)
    frames = F.kl_div(q, teachers, reduction="none", log_target=True).sum(-1)
    return temperature**2 * (frames * valid_frames(lengths, student)).sum(-1)


def tempered_log_probs(log_probs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log-probabilities `(..., symbols)`, flatter the higher the temperature."""
    return (log_probs / temperature).log_softmax(-1)


def _model(folder: str, recipe: SpeechRecipe) -> SpeechModel:
    """A run's model, which must hear and write as the recipe's does."""
    teacher = Recognizer.from_run(folder)
    theirs, ours = _ways(teacher.recipe), _ways(recipe)
    for key, value in theirs.items():
        if value != ours[key]:
            raise RecipeError(
                f"teacher {folder}: its {key} is {value!r}, the recipe's {ours[key]!r}; "
                "name another run or change the recipe"
            )
    return teacher.model


def _ways(recipe: SpeechRecipe) -> dict[str, Any]:
    """What decides the meaning of a model's inputs and outputs."""
    strides = [block.stride[-1] for block in recipe.model.front_end.convolutions]
    features = recipe.data.features.model_dump().items()
    return {f"data.features.{key}": value for key, value in features} | {
        "data.letters": recipe.data.letters,
        "number of feature frames per output frame": math.prod(strides),
    }
