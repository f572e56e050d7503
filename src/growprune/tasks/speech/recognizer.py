"""A finished run as a recogniser: audio in, text out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from growprune.data import extract, load_audio
from growprune.decoding import Hypothesis, NGramModel, beam_search, greedy
from growprune.errors import DataError
from growprune.tasks.speech.model import SpeechModel
from growprune.tasks.speech.settings import SpeechRecipe
from growprune.tasks.speech.task import build_model
from growprune.training import load_weights, validate


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


class Recognizer:
    """A trained model with everything between a sound file and its text."""

    def __init__(self, model: SpeechModel, recipe: SpeechRecipe) -> None:
        self.model = model.eval()
        self.recipe = recipe
        self.masks: dict[str, torch.Tensor] = {}

    @classmethod
    def from_run(cls, folder: str | Path) -> "Recognizer":
        """Load what `growprune train` left in `folder`.

        Raises:
            CheckpointError: there is no finished model, or it is damaged.
        """
        folder = Path(folder)
        weights = load_weights(folder)
        recipe = validate(SpeechRecipe, weights.recipe, f"of {folder}")
        recognizer = cls(build_model(recipe), recipe)
        weights.load_into(recognizer.model, folder)
        recognizer.masks = weights.masks
        return recognizer

    @property
    def seconds_per_frame(self) -> float:
        """Seconds of audio per output frame."""
        return self.recipe.data.features.hop_ms / 1000 * self.model.stride

    def log_probs(self, wave: np.ndarray) -> np.ndarray:
        """Log-probabilities `(output frames, symbols)` of audio `(samples,)`."""
        features = torch.from_numpy(extract(wave, self.recipe.data.features))
        with torch.inference_mode():
            scores, _ = self.model(features.unsqueeze(0), torch.tensor([len(features)]))
        return scores[0].numpy()

    def transcribe(self, audio: str | Path, decoder: Decoder | None = None) -> Hypothesis:
        """The text of a sound file, greedily unless a decoder is given; times in seconds.

        Raises:
            DataError: the file is missing, not audio, truncated, empty or silent.
        """
        wave = load_audio(audio, self.recipe.data.features.sample_rate)
        return self.decode(self.log_probs(wave), decoder)

    def decode(self, log_probs: np.ndarray, decoder: Decoder | None = None) -> Hypothesis:
        """The text of log-probabilities `(output frames, symbols)`."""
        return (decoder or Decoder())(log_probs, self.recipe.data.letters, self.seconds_per_frame)


def language_model(transcripts: Iterable[str], order: int) -> NGramModel:
    """An n-gram model of transcripts.

    Raises:
        DataError: there is no transcript.
    """
    sentences = [text for text in transcripts if text.strip()]
    if not sentences:
        raise DataError("no transcripts to estimate a language model from; give a training split")
    return NGramModel.estimate(sentences, order=order)
