"""A scored set of transcripts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from growprune.metrics.error_rates import ErrorCounts, character_error_rate, word_errors


@dataclass(frozen=True)
class Transcript:
    """What was said, and what was understood."""

    name: str
    reference: str
    text: str


@dataclass(frozen=True)
class Evaluation:
    """A split's transcripts and error rates (fractions)."""

    transcripts: tuple[Transcript, ...]
    words: ErrorCounts
    wer: float
    cer: float

    @classmethod
    def of(cls, transcripts: Iterable[Transcript]) -> Self:
        """Count the errors of transcripts."""
        rows = tuple(transcripts)
        references = [row.reference for row in rows]
        found = [row.text for row in rows]
        words = word_errors(references, found)
        return cls(rows, words, words.rate, character_error_rate(references, found))

    @property
    def scores(self) -> dict[str, float]:
        """The figures as the record keeps them."""
        return {"wer": self.wer, "cer": self.cer}
