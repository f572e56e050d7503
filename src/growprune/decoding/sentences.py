"""Sentences from a model that gives each next word's probability: the likeliest, or drawn ones.

The model enters as two functions, so that any engine can serve. All images are written together:
a row is an image, or one of its hypotheses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

import numpy as np

State = TypeVar("State")
Step = Callable[[np.ndarray, State], tuple[np.ndarray, State]]
Select = Callable[[State, np.ndarray], State]


@dataclass(frozen=True)
class Sentence:
    """What was written for one image.

    Attributes:
        words: Numbers of the words, without the end.
        log_prob: Natural logarithm of the model's probability of all these words and, unless the
            sentence was cut at its longest, of the end.
    """

    words: tuple[int, ...]
    log_prob: float


def search(
    log_probs: np.ndarray,
    state: State,
    step: Step[State],
    select: Select[State],
    *,
    end: int,
    beam: int = 1,
    longest: int = 20,
    length_penalty: float = 0.0,
    forbidden: Sequence[int] = (),
) -> list[Sentence]:
    """The best sentence of each image that a beam search finds; with a beam of 1, the greedy one.

    Of all continuations of an image's open hypotheses the `beam` likeliest survive. Those that
    wrote the end, or their last word at `longest`, are set aside, and the best of these wins;
    hypotheses that cannot win any more are dropped. Ties go to the sentence that ended first,
    then to the better parent, then to the lower word.

    Args:
        log_probs: Natural logarithms of the probabilities of the first word, `(images, words)`.
        state: What `step` takes, one row an image.
        step: From words `(rows,)` and a state to the log-probabilities of the next word
            `(rows, words)` and the next state.
        select: From a state and row numbers to the state of these rows, in their order; rows may
            repeat.
        end: The word that ends a sentence.
        beam: Hypotheses kept for each image.
        longest: Words after which a sentence is cut, without its end.
        length_penalty: Sentences compete with their log-probability divided by their length to
            this power, the end counted; 0 leaves the plain sum, more favours longer ones.
        forbidden: Words never written. Their probability is not shared out among the others.

    Returns:
        A sentence for each image; an empty one of log-probability -inf where none is possible.
    """
    _check(log_probs, end, longest, forbidden)
    if beam < 1:
        raise ValueError(f"beam must be at least 1, got {beam}")
    if length_penalty < 0:
        raise ValueError(f"length_penalty must not be negative, got {length_penalty}")
    found = [Sentence((), -inf)] * len(log_probs)
    rating = np.full(len(log_probs), -inf)
    hypotheses = _Hypotheses.first(len(log_probs))
    for length in range(1, longest + 1):
        totals = hypotheses.log_prob[:, None] + _allowed(log_probs, forbidden)
        rows, words = _likeliest(totals, hypotheses.image, beam)
        hypotheses = hypotheses.extended(rows, words, totals[rows, words])
        ended = (words == end) | (length == longest)
        for row in np.flatnonzero(ended).tolist():
            image = hypotheses.image[row]
            rated = hypotheses.log_prob[row] / length**length_penalty
            if rated > rating[image]:
                rating[image], found[image] = rated, hypotheses.sentence(row, end)
        # Log-probabilities only fall from here on, and no length divides them by more.
        hopes = hypotheses.log_prob / longest**length_penalty
        kept = np.flatnonzero(~ended & (hopes > rating[hypotheses.image]))
        if not len(kept):
            break
        hypotheses = hypotheses.rows(kept)
        log_probs, state = step(words[kept], select(state, rows[kept]))
    return found


def sample(
    log_probs: np.ndarray,
    state: State,
    step: Step[State],
    select: Select[State],
    *,
    end: int,
    temperature: float,
    rng: np.random.Generator,
    longest: int = 20,
    forbidden: Sequence[int] = (),
) -> list[Sentence]:
    """Draw a sentence for each image, word by word.

    An image's draws depend on the generator and its place among the images, not on how long the
    other sentences become. The arguments not named here are those of `search`.

    Args:
        log_probs: Natural logarithms of the probabilities of the first word, `(images, words)`.
        state: What `step` takes, one row an image.
        step: Gives the next word's log-probabilities.
        select: Picks rows of a state.
        end: The word that ends a sentence.
        temperature: Words are drawn with their probability to the power `1 / temperature`: 1 as
            the model says, less keeps to likely words, towards 0 only to the likeliest.
        rng: Source of the draws.
        longest: Words after which a sentence is cut, without its end.
        forbidden: Words never written; the others are drawn in proportion.

    Returns:
        A sentence for each image, with the model's own log-probability, whatever the temperature.
    """
    _check(log_probs, end, longest, forbidden)
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}; search finds the best")
    images = len(log_probs)
    written = [Sentence((), -inf)] * images
    hypotheses = _Hypotheses.first(images)
    for length in range(1, longest + 1):
        allowed = _allowed(log_probs, forbidden)
        rows = np.flatnonzero(allowed.max(axis=1) > -inf)
        allowed, drawn = allowed[rows], rng.random(images)[hypotheses.image[rows]]
        words = _drawn(allowed, temperature, drawn)
        log_prob = hypotheses.log_prob[rows] + allowed[np.arange(len(rows)), words]
        hypotheses = hypotheses.extended(rows, words, log_prob)
        ended = (words == end) | (length == longest)
        for row in np.flatnonzero(ended).tolist():
            written[hypotheses.image[row]] = hypotheses.sentence(row, end)
        kept = np.flatnonzero(~ended)
        if not len(kept):
            break
        hypotheses = hypotheses.rows(kept)
        log_probs, state = step(words[kept], select(state, rows[kept]))
    return written


@dataclass(frozen=True)
class _Hypotheses:
    """Beginnings of sentences: image `(rows,)`, log_prob `(rows,)`, words `(rows, length)`."""

    image: np.ndarray
    log_prob: np.ndarray
    words: np.ndarray

    @classmethod
    def first(cls, images: int) -> "_Hypotheses":
        """Nothing written yet, a row an image."""
        return cls(np.arange(images), np.zeros(images), np.empty((images, 0), dtype=np.int64))

    def rows(self, rows: np.ndarray) -> "_Hypotheses":
        return _Hypotheses(self.image[rows], self.log_prob[rows], self.words[rows])

    def extended(self, rows: np.ndarray, word: np.ndarray, log_prob: np.ndarray) -> "_Hypotheses":
        words = np.concatenate([self.words[rows], word[:, None]], axis=1)
        return _Hypotheses(self.image[rows], log_prob, words)

    def sentence(self, row: int, end: int) -> Sentence:
        words = tuple(self.words[row].tolist())
        return Sentence(words[:-1] if words[-1] == end else words, float(self.log_prob[row]))


def _check(log_probs: np.ndarray, end: int, longest: int, forbidden: Sequence[int]) -> None:
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs must be (images, words), got {log_probs.shape}")
    if longest < 1:
        raise ValueError(f"longest must be at least 1, got {longest}")
    words = log_probs.shape[1]
    for word in (end, *forbidden):
        if not 0 <= word < words:
            raise ValueError(f"word {word} is not among the {words} words")
    if end in forbidden:
        raise ValueError(f"word {end} ends sentences; it cannot be forbidden")


def _allowed(log_probs: np.ndarray, forbidden: Sequence[int]) -> np.ndarray:
    """The log-probabilities `(rows, words)` in double precision, -inf for the forbidden."""
    allowed = log_probs.astype(np.float64)
    if np.isnan(allowed).any():
        raise ValueError("log_probs hold NaN; the model that made them has diverged")
    allowed[:, list(forbidden)] = -inf
    return allowed


def _likeliest(totals: np.ndarray, image: np.ndarray, beam: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and words of each image's `beam` highest totals `(rows, words)`, the best first."""
    if beam == 1:
        words = totals.argmax(axis=1)  # the lowest of equals; and a row is an image
        rows = np.flatnonzero(totals[np.arange(len(words)), words] > -inf)
        return rows, words[rows]
    per_row = min(beam, totals.shape[1])
    # Equals of a row's last survivor stay for now, so that the order decides and not chance.
    least = np.partition(totals, -per_row, axis=1)[:, -per_row]
    rows, words = np.nonzero((totals >= least[:, None]) & (totals > -inf))
    order = np.lexsort((words, rows, -totals[rows, words], image[rows]))
    rows, words = rows[order], words[order]
    images = image[rows]
    rank = np.arange(len(images)) - np.searchsorted(images, images)
    return rows[rank < beam], words[rank < beam]


def _drawn(log_probs: np.ndarray, temperature: float, uniform: np.ndarray) -> np.ndarray:
    """A word for each row, where the cumulated probabilities pass a number in [0, 1)."""
    with np.errstate(over="ignore"):  # at a low temperature, unlikely words fall to -inf
        tempered = (log_probs - log_probs.max(axis=1, keepdims=True)) / temperature
    cumulated = np.cumsum(np.exp(tempered), axis=1)
    return (cumulated <= uniform[:, None] * cumulated[:, -1:]).sum(axis=1)
