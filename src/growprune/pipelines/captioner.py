"""A packed captioner: features of images in, sentences out, from one file and without torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, ValidationError

from growprune import native, runtime
from growprune.data import Vocabulary
from growprune.decoding import Caption, Writer
from growprune.errors import ModelFileError
from growprune.settings import Settings, settings_error

State = tuple[np.ndarray, ...]
"""What the recurrent layers carry, each `(rows, hidden)`."""


class Captioner:
    """A packed model with everything between an image's features and its caption.

    The model steps from what the recurrent layers read to the next word's log-probabilities; its
    part `image` makes that of features, its part `words` of words' numbers. With a part `merge`,
    which reads features, it steps to what that is added to, and its part `output` makes
    log-probabilities of the sum.

    Args:
        model: a packed captioning model.
        source: what error messages call it, such as its file.

    Raises:
        ModelFileError: the model is not one for captioning.
    """

    def __init__(self, model: runtime.Model, source: str | Path = "model") -> None:
        self.model = model
        self.source = str(source)
        self._settings = _settings(model, self.source)
        self.vocabulary = Vocabulary(self._settings.words)
        _check_networks(model, self._settings, self.source)
        self._image, self._words = model.parts["image"], model.parts["words"]
        self._merge, self._output = model.parts.get("merge"), model.parts.get("output")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a packed file.

        Raises:
            ModelFileError: the file is missing, damaged, or not a captioner's.
        """
        return cls(runtime.load(path), path)

    @property
    def engine(self) -> str:
        """What computes, as the record names it."""
        return f"growprune.runtime, {native.kernel()}"

    @property
    def encoder(self) -> Mapping[str, Any]:
        """What computes the features it was trained with: `name`, `pool` and `width`."""
        return self._settings.encoder.model_dump()

    @property
    def width(self) -> int:
        """Features of an image."""
        return self._settings.encoder.width

    def caption(
        self,
        features: np.ndarray,
        *,
        beam: int = 3,
        length_penalty: float = 0.0,
        temperature: float | None = None,
        seed: int | tuple[int, ...] = 0,
    ) -> list[Caption]:
        """Captions of images, the likeliest that a beam search finds or drawn by chance.

        Args:
            features: `(images, width)`.
            beam: hypotheses kept for each image; 1 is greedy.
            length_penalty: 0 compares captions by their probability, more favours longer ones.
            temperature: draw words at this temperature instead of searching.
            seed: of the draws.

        Raises:
            ModelFileError: the weights are so large that their results are no numbers.
            ValueError: features or settings that do not fit.
        """
        writer = Writer(beam, self._settings.longest, length_penalty, temperature, seed)
        return writer.captions(self, features, self.vocabulary.decode)

    # What `Writer` needs

    def begin(self, features: np.ndarray) -> tuple[np.ndarray, State]:
        """Read images `(images, width)`; see `Language`."""
        merged = (self._merge.step(features)[0],) if self._merge else ()
        return self._advance(self._image.step(features)[0], None, merged)

    def step(self, words: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Read a word of each `(rows,)`; see `Language`."""
        carried = len(state) - (self._merge is not None)
        return self._advance(self._words.step(words)[0], state[:carried], state[carried:])

    def select(self, state: State, rows: np.ndarray) -> State:
        """The state of these rows; see `Language`."""
        return tuple(part[rows] for part in state)

    def _advance(
        self, x: np.ndarray, carried: State | None, merged: State
    ) -> tuple[np.ndarray, State]:
        y, carried = self.model.step(x, carried)
        scores = self._output.step(sum(merged, y))[0] if self._output else y
        # The logarithm of a softmax is not a number anywhere if it is none somewhere.
        if np.isnan(scores[:, 0]).any():
            raise ModelFileError(f"{self.source}: its weights are too large to compute with")
        return scores, (*carried, *merged)


_Word = Annotated[str, Field(pattern=r"^[^\s\p{C}\p{Z}]+$")]
"""Neither spaces nor what steers a terminal."""


class _Encoder(Settings):
    """What computes the features."""

    name: str = Field(min_length=1)
    pool: int = Field(ge=1)
    width: int = Field(ge=1)


class _Captioning(Settings):
    """What a packed captioner says of itself."""

    words: tuple[_Word, ...]
    encoder: _Encoder
    longest: int = Field(ge=1, le=1000, description="words after which a caption is cut")


def _settings(model: runtime.Model, source: str) -> _Captioning:
    """What the model says of itself."""
    info = model.info
    if info.get("task") != "captioning":
        raise ModelFileError(
            f"{source}: not a captioner, its task is {info.get('task')!r}; export a captioning run"
        )
    try:
        found = _Captioning(**{key: info[key] for key in _Captioning.model_fields if key in info})
    except ValidationError as error:
        raise ModelFileError(str(settings_error(error, _Captioning, source))) from None
    try:
        Vocabulary(found.words)
    except ValueError as error:
        raise ModelFileError(f"{source}: {error}; export the run again") from None
    return found


def _check_networks(model: runtime.Model, settings: _Captioning, source: str) -> None:
    """Raise ModelFileError unless the networks fit one another, the words and the features."""
    try:
        if misfit := next(_misfits(model, settings), None):
            raise ValueError(misfit)
        seen = np.zeros((1, settings.encoder.width), np.float32)
        if "merge" in model.parts:
            model.parts["output"].step(model.parts["merge"].step(seen)[0])
        _, state = model.step(model.parts["image"].step(seen)[0])
        model.step(model.parts["words"].step(np.zeros(1, np.int64))[0], state)
    except ValueError as error:
        raise ModelFileError(f"{source}: {error}; export the run again") from None


def _misfits(model: runtime.Model, settings: _Captioning) -> Iterator[str]:
    """What does not fit."""
    count, width = len(settings.words), settings.encoder.width
    parts = model.parts
    if set(parts) not in ({"image", "words"}, {"image", "words", "merge", "output"}):
        yield f"its parts are {sorted(parts)!r:.80}, not image and words, or merge and output too"
        return
    image, words, read = parts["image"], parts["words"], model.features
    merge, output = parts.get("merge", image), parts.get("output", model)
    for part in (image, merge):
        if part.features != (width,):
            yield f"its encoder gives {width} numbers, but the network reads {_told(part.features)}"
    if len(read) != 1 or image.output_features != read or words.output_features != read:
        yield (
            f"its parts give {_told(image.output_features)} (image) and "
            f"{_told(words.output_features)} (words) numbers, but the decoder reads {_told(read)}"
        )
    given = {model.output_features, merge.output_features, output.features}
    if merge is not image and len(given) > 1:
        yield f"what is merged has {' and '.join(sorted(map(_told, given)))} numbers"
    tables = [matrix.shape for matrix in words.matrices]
    if not words.takes_ids or tables != [(count, *read)]:
        yield f"it has {count} words, but its part that reads them has the tables {tables!r:.80}"
    if output.output_features != (count,):
        yield f"it has {count} words, but the network {_told(output.output_features)} outputs"


def _told(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes)) or "ids"
