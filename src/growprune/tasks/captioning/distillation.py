"""What `growprune.tasks.distillation` is where captioners learn from captioners."""

from collections.abc import Mapping, Sequence
from typing import Any

from growprune.data import Vocabulary
from growprune.tasks.captioning.captioner import Captioner
from growprune.tasks.captioning.model import CaptionModel
from growprune.tasks.distillation import Teachers, check_same


def open_teachers(
    folders: Sequence[str], vocabulary: Vocabulary, encoder: Mapping[str, Any]
) -> Teachers:
    """The captioners in these folders.

    Args:
        folders: of finished runs.
        vocabulary: which theirs must be.
        encoder: whose features they must read: `name`, `pool` and `width`.

    Raises:
        CheckpointError: a folder does not hold a finished run.
        RecipeError: it holds no captioner, or one of other words or features.
    """

    def load(folder: str) -> CaptionModel:
        teacher = Captioner.from_run(folder)
        theirs = _ways(teacher.vocabulary, teacher.encoder)
        check_same(folder, theirs, _ways(vocabulary, encoder))
        return teacher.model

    return Teachers(folders, load)


def _ways(vocabulary: Vocabulary, encoder: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the meaning of a model's inputs and outputs."""
    encoded = {f"encoder.{key}": value for key, value in encoder.items()}
    words = {f"word {number}": word for number, word in enumerate(vocabulary.words)}
    return encoded | {"number of words": len(vocabulary)} | words
