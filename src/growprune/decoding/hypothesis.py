"""What a decoder hands back: a text, how likely it is, and when each word was said."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

BLANK = 0
SPACE = " "


@dataclass(frozen=True)
class Word:
    """A word and its place in the audio.

    Attributes:
        text: The word.
        start: When its first letter begins, in seconds (in frames if no frame length was given).
        end: When its last letter ends.
    """

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance.

    Attributes:
        text: The words with single spaces between them.
        score: Natural logarithm; what it is of, the decoder says.
        words: The words with their times.
    """

    text: str
    score: float
    words: tuple[Word, ...]


def checked(log_probs: np.ndarray, letters: str) -> np.ndarray:
    """The log-probabilities `(frames, symbols)`, if they can be decoded into `letters`."""
    if log_probs.ndim != 2 or log_probs.shape[1] != len(letters) + 1:
        raise ValueError(
            f"log_probs must be (frames, {len(letters) + 1}): the blank and {len(letters)} "
            f"letters; got {log_probs.shape}"
        )
    if np.isnan(log_probs).any():
        raise ValueError("log_probs hold NaN; the model that made them has diverged")
    return log_probs


def from_path(
    path: Sequence[int], letters: str, score: float, seconds_per_frame: float
) -> Hypothesis:
    """Read a path, one symbol a frame: merge repeats, drop blanks, split words at spaces."""
    spans: list[tuple[str, int, int]] = []
    end = 0
    for symbol, run in groupby(path):
        start, end = end, end + len(list(run))
        if symbol != BLANK:
            spans.append((letters[symbol - 1], start, end))
    words = tuple(
        _word(list(group), seconds_per_frame)
        for is_space, group in groupby(spans, key=lambda span: span[0] == SPACE)
        if not is_space
    )
    return Hypothesis(SPACE.join(word.text for word in words), score, words)


def _word(spans: Sequence[tuple[str, int, int]], seconds_per_frame: float) -> Word:
    """Of its letters, each with its first frame and the frame after its last."""
    text = "".join(letter for letter, _, _ in spans)
    return Word(text, spans[0][1] * seconds_per_frame, spans[-1][2] * seconds_per_frame)
