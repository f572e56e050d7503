"""How a recogniser's log-probabilities become text: the choice and its settings."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from growprune.decoding.beam import beam_search
from growprune.decoding.greedy import greedy
from growprune.decoding.hypothesis import Hypothesis
from growprune.decoding.ngram import NGramModel
from growprune.errors import DataError


@dataclass(frozen=True)
class Decoder:
    """How log-probabilities become text.

    Attributes:
        beam: prefixes kept; 1 decodes greedily.
        language_model: weighed in where a word ends; needs a beam.
        lm_weight: factor of the language model's log-probability.
        word_bonus: added for every word, against the language model's love of short texts.
    """

    beam: int = 1
    language_model: NGramModel | None = None
    lm_weight: float = 0.5
    word_bonus: float = 1.0

    def __call__(self, log_probs: np.ndarray, letters: str, seconds_per_frame: float) -> Hypothesis:
        """The text of log-probabilities `(frames, symbols)`."""
        if self.beam == 1 and self.language_model is None:
            return greedy(log_probs, letters, seconds_per_frame)
        return beam_search(
            log_probs,
            letters,
            width=self.beam,
            language_model=self.language_model,
            lm_weight=self.lm_weight,
            word_bonus=self.word_bonus if self.language_model else 0.0,
            seconds_per_frame=seconds_per_frame,
        )


def language_model(transcripts: Iterable[str], order: int) -> NGramModel:
    """An n-gram model of transcripts.

    Raises:
        DataError: there is no transcript.
    """
    sentences = [text for text in transcripts if text.strip()]
    if not sentences:
        raise DataError("no transcripts to estimate a language model from; give a training split")
    return NGramModel.estimate(sentences, order=order)
