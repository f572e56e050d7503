"""How captions are written: searched for or drawn, by whatever model."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from growprune.decoding.sentences import Sentence, sample, search

_END, _UNKNOWN = 0, 1  # as vocabularies number them
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Caption:
    """What was written for an image.

    Attributes:
        text: the sentence.
        log_prob: natural logarithm of its probability by the model.
    """

    text: str
    log_prob: float


class Language(Protocol):
    """A model that reads images and then words; states are its own."""

    def begin(self, features: np.ndarray) -> tuple[np.ndarray, Any]:
        """Read `(images, width)`: log-probabilities `(images, words)` of the first word, state."""
        ...

    def step(self, words: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Read a word `(rows,)` of each: log-probabilities `(rows, words)` of the next, state."""
        ...

    def select(self, state: Any, rows: np.ndarray) -> Any:
        """The state of these rows."""
        ...


@dataclass(frozen=True)
class Writer:
    """Settings of the search, and the search itself; a beam of 1 is greedy.

    Attributes:
        beam: hypotheses kept for each image.
        longest: words after which a caption is cut.
        length_penalty: see `search`.
        temperature: draw by chance instead, at this temperature.
        seed: of the draws.
    """

    beam: int = 1
    longest: int = 20
    length_penalty: float = 0.0
    temperature: float | None = None
    seed: int | tuple[int, ...] = 0

    def captions(
        self, model: Language, features: np.ndarray, decode: Callable[[Iterable[int]], str]
    ) -> list[Caption]:
        """A caption for each of the images `(images, width)`; `decode` makes text of words."""
        return [
            Caption(decode(sentence.words), sentence.log_prob) for sentence in self(model, features)
        ]

    def __call__(self, model: Language, features: np.ndarray) -> list[Sentence]:
        """A sentence for each of the images `(images, width)`; never one with an unknown word."""
        rng = np.random.default_rng(self.seed)
        written = (self._written(model, chunk, rng) for chunk in self._chunks(features))
        return [sentence for sentences in written for sentence in sentences]

    def _chunks(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Images that are written for together, not all at once for the memory's sake."""
        size = max(1, _ROWS_AT_ONCE // self.beam)
        return (features[start : start + size] for start in range(0, len(features), size))

    def _written(
        self, model: Language, features: np.ndarray, rng: np.random.Generator
    ) -> list[Sentence]:
        log_probs, state = model.begin(features)
        if self.temperature is not None:
            return sample(
                log_probs,
                state,
                model.step,
                model.select,
                end=_END,
                temperature=self.temperature,
                rng=rng,
                longest=self.longest,
                forbidden=[_UNKNOWN],
            )
        return search(
            log_probs,
            state,
            model.step,
            model.select,
            end=_END,
            beam=self.beam,
            longest=self.longest,
            length_penalty=self.length_penalty,
            forbidden=[_UNKNOWN],
        )
