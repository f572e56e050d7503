"""A packed recogniser: audio in, text out, from one file and without torch."""

from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, ValidationError

from growprune import native, runtime
from growprune.data import FeatureSettings, FeatureStream, extract, load_audio
from growprune.decoding import Decoder, GreedyStream, Hypothesis, NGramModel
from growprune.errors import ModelFileError
from growprune.settings import Settings, settings_error


class Recognizer:
    """A packed model with everything between a sound file and its text.

    Args:
        model: a packed speech model.
        source: what error messages call it, such as its file.

    Raises:
        ModelFileError: the model is not one for speech.
    """

    def __init__(self, model: runtime.Model, source: str | Path = "model") -> None:
        self.model = model
        self.source = str(source)
        self.speech = _speech(model, self.source)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a packed file.

        Raises:
            ModelFileError: the file is missing, damaged, or not a recogniser's.
        """
        return cls(runtime.load(path), path)

    @property
    def engine(self) -> str:
        """What computes, as the record names it."""
        return f"growprune.runtime, {native.kernel()}"

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio it hears."""
        return self.speech.features.sample_rate

    @property
    def seconds_per_frame(self) -> float:
        """Seconds of audio per output frame."""
        return self.speech.features.hop_ms / 1000 * self.speech.stride

    def language_model(self, order: int) -> NGramModel:
        """The n-gram model packed with the network, of at most its own order.

        Raises:
            ModelFileError: there is none, or it is damaged or of a lower order.
        """
        content = self.model.info.get("language_model")
        if content is None:
            raise ModelFileError(
                f"{self.source}: holds no language model; export the run with --lm-order {order}"
            )
        try:
            return NGramModel.from_json(content).shortened(order)
        except ValueError as error:
            raise ModelFileError(
                f"{self.source}: its language model cannot be used ({error}); export the run again"
            ) from None

    def log_probs(self, wave: np.ndarray) -> np.ndarray:
        """Log-probabilities `(output frames, symbols)` of audio `(samples,)`."""
        features = extract(wave, self.speech.features)
        scores, _ = self.model.run(features[None])
        return scores[0]

    def transcribe(self, audio: str | Path, decoder: Decoder | None = None) -> Hypothesis:
        """The text of a sound file, greedily unless a decoder is given; times in seconds.

        Raises:
            DataError: the file is missing, not audio, truncated, empty or silent.
        """
        return self.decode(self.log_probs(load_audio(audio, self.sample_rate)), decoder)

    def decode(self, log_probs: np.ndarray, decoder: Decoder | None = None) -> Hypothesis:
        """The text of log-probabilities `(output frames, symbols)`."""
        return (decoder or Decoder())(log_probs, self.speech.letters, self.seconds_per_frame)

    def stream(self, decoder: Decoder | None = None) -> "TextStream":
        """Hear audio while it arrives; see `TextStream`.

        Raises:
            ModelFileError: the model needs the whole utterance.
        """
        return TextStream(self, decoder)


class TextStream:
    """Text that grows while audio arrives, in pieces of any size.

    The growing text is the greedy one, to which letters are only ever appended; the final one is
    what `Recognizer.transcribe` gives for the whole.
    """

    def __init__(self, recognizer: Recognizer, decoder: Decoder | None = None) -> None:
        if recognizer.speech.features.normalise == "utterance":
            raise _no_stream(recognizer.source, "its features are normalised over the utterance")
        if recognizer.model.not_streamable:
            raise _no_stream(recognizer.source, recognizer.model.not_streamable)
        self._network = recognizer.model.stream()
        self._recognizer = recognizer
        self._decoder = decoder
        self._features = FeatureStream(recognizer.speech.features)
        self._greedy = GreedyStream(recognizer.speech.letters)
        self._scores: list[np.ndarray] = []
        self._heard = 0
        self._beginning = np.empty(0, np.float32)

    @property
    def seconds(self) -> float:
        """Seconds of audio heard so far."""
        return self._heard / self._recognizer.sample_rate

    def push(self, wave: np.ndarray) -> str:
        """Hear the next samples `(samples,)`, at the model's rate; return the text so far."""
        self._heard += len(wave)
        if len(self._beginning) < self._recognizer.speech.features.window:
            self._beginning = np.concatenate([self._beginning, wave])
        return self._read(self._features.push(wave))

    def finish(self) -> Hypothesis:
        """The final text, once all audio has been pushed."""
        settings = self._recognizer.speech.features
        if 0 < self._heard < settings.window:  # one frame, filled up, as `extract` has it
            self._read(extract(self._beginning, settings))
        elif self._heard:
            self._read(settings.tail)
        self._grow(self._network.finish())
        if not self._scores:
            return Hypothesis("", 0.0, ())
        return self._recognizer.decode(np.concatenate(self._scores), self._decoder)

    def _read(self, features: np.ndarray) -> str:
        if len(features):
            self._grow(self._network.push(features[None]))
        return self._greedy.text

    def _grow(self, scores: np.ndarray) -> None:
        """Take the next outputs `(1, frames, symbols)`."""
        if scores.shape[1]:
            self._scores.append(scores[0])
            self._greedy.push(scores[0])


class _Speech(Settings):
    """What a packed recogniser says of itself."""

    letters: str = Field(min_length=1)
    features: FeatureSettings
    stride: int = Field(ge=1, description="feature frames per output frame")


def _speech(model: runtime.Model, source: str) -> _Speech:
    """What the model says of itself, after a check that it is true of the network."""
    info = model.info
    if info.get("task") != "speech":
        raise ModelFileError(
            f"{source}: not a recogniser, its task is {info.get('task')!r}; export a speech run"
        )
    try:
        speech = _Speech(**{key: info[key] for key in _Speech.model_fields if key in info})
    except ValidationError as error:
        raise ModelFileError(str(settings_error(error, _Speech, source))) from None
    if model.features != (speech.features.columns,) or model.takes_ids:
        raise ModelFileError(
            f"{source}: its features have {speech.features.columns} numbers a frame, but the "
            f"network reads {', '.join(map(str, model.features)) or 'ids'}; export the run again"
        )
    if model.output_features != (len(speech.letters) + 1,) or not model.keeps_time:
        raise ModelFileError(
            f"{source}: the network has {', '.join(map(str, model.output_features))} outputs, but "
            f"{len(speech.letters)} letters and the blank are written; export the run again"
        )
    return speech


def _no_stream(source: str, reason: str) -> ModelFileError:
    return ModelFileError(
        f"{source}: cannot stream ({reason}); train a unidirectional model with running "
        "normalisation, such as the recipe an4-small-streaming"
    )
