"""Word and character error rates of whole test sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jiwer


@dataclass(frozen=True)
class ErrorCounts:
    """Edits that turn the references into the hypotheses, summed over a test set.

    Attributes:
        substitutions: Units written wrongly.
        deletions: Units left out.
        insertions: Units added.
        reference_units: Words, or characters, in the references.
    """

    substitutions: int
    deletions: int
    insertions: int
    reference_units: int

    @property
    def errors(self) -> int:
        """All edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits per reference unit; infinite where insertions meet references without any unit."""
        if self.reference_units:
            return self.errors / self.reference_units
        return float("inf") if self.errors else 0.0


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Count word edits, each pair aligned by itself; texts are compared as they stand."""
    if not _paired(references, hypotheses):
        return ErrorCounts(0, 0, 0, 0)
    from jiwer import process_words

    return _counts(process_words(list(references), list(hypotheses)))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Count character edits, spaces between words included."""
    if not _paired(references, hypotheses):
        return ErrorCounts(0, 0, 0, 0)
    from jiwer import process_characters

    return _counts(process_characters(list(references), list(hypotheses)))


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Word edits over reference words, of the test set as a whole (0.1 is 10%)."""
    return word_errors(references, hypotheses).rate


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Character edits over reference characters, of the test set as a whole."""
    return character_errors(references, hypotheses).rate


def _paired(references: Sequence[str], hypotheses: Sequence[str]) -> int:
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(references)} references but {len(hypotheses)} hypotheses; give one for each"
        )
    return len(references)


def _counts(output: "jiwer.WordOutput | jiwer.CharacterOutput") -> ErrorCounts:
    return ErrorCounts(
        substitutions=output.substitutions,
        deletions=output.deletions,
        insertions=output.insertions,
        reference_units=output.hits + output.substitutions + output.deletions,
    )
