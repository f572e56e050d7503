"""A finished run as a recogniser: audio in, text out."""

from pathlib import Path

import numpy as np
import torch

from growprune.data import extract, load_audio
from growprune.decoding import Decoder, Hypothesis
from growprune.tasks.speech.model import SpeechModel, build_model
from growprune.tasks.speech.settings import SpeechRecipe
from growprune.training import load_weights, validate


class Recognizer:
    """A trained model with everything between a sound file and its text."""

    engine = "torch eager, masked dense arithmetic"

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
    def sample_rate(self) -> int:
        """Samples per second of the audio it hears."""
        return self.recipe.data.features.sample_rate

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
        wave = load_audio(audio, self.sample_rate)
        return self.decode(self.log_probs(wave), decoder)

    def decode(self, log_probs: np.ndarray, decoder: Decoder | None = None) -> Hypothesis:
        """The text of log-probabilities `(output frames, symbols)`."""
        return (decoder or Decoder())(log_probs, self.recipe.data.letters, self.seconds_per_frame)
