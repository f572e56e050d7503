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
    part `image` makes that of features, its part `words` of words' numbers. A part `state` in the
    place of `image` makes every hidden and cell state that it begins with, and zeros are read
    first. With a part `merge`, which reads features, it steps to what that is added to, and its
    part `output` makes log-probabilities of the sum.

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
        self._states = _check_networks(model, self._settings, self.source)
        self._image, self._words = _injected(model.parts), model.parts["words"]
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

    def first(self, features: np.ndarray) -> tuple[np.ndarray, State | None]:
        """What the decoder reads first, and the state that it begins with.

        Args:
            features: `(images, width)`.

        Returns:
            `(images, inputs)`, and hidden and cell states `(images, hidden)`, layer by layer; None
            where they are zeros.
        """
        seen, _ = self._image.step(features)
        if "state" not in self.model.parts:
            return seen, None
        return np.zeros((len(seen), *self.model.features), np.float32), (seen,) * self._states

    # What `Writer` needs

    def begin(self, features: np.ndarray) -> tuple[np.ndarray, State]:
        """Read images `(images, width)`; see `Language`."""
        merged = (self._merge.step(features)[0],) if self._merge else ()
        return self._advance(*self.first(features), merged)

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


def _injected(parts: Mapping[str, runtime.Model]) -> runtime.Model:
    """The network that reads the image before any word."""
    return parts["state" if "state" in parts else "image"]


def _check_networks(model: runtime.Model, settings: _Captioning, source: str) -> int:
    """How many states the decoder carries.

    Raises:
        ModelFileError: the networks do not fit one another, the words or the features.
    """
    try:
        if misfit := next(_misfits(model, settings), None):
            raise ValueError(misfit)
        seen = np.zeros((1, settings.encoder.width), np.float32)
        if "merge" in model.parts:
            model.parts["output"].step(model.parts["merge"].step(seen)[0])
        size = _injected(model.parts).step(seen)[0].shape[1:]
        word, _ = model.parts["words"].step(np.zeros(1, np.int64))
        _, state = model.step(np.zeros_like(word))
        model.step(word, state)
        carried = {part.shape[1:] for part in state}
        if "state" in model.parts and carried != {size}:
            sizes = " and ".join(sorted(map(_told, carried))) or "no"
            raise ValueError(f"it begins with {_told(size)} numbers, but carries {sizes}")
    except ValueError as error:
        raise ModelFileError(f"{source}: {error}; export the run again") from None
    return len(state)


_MERGED = ((), ("merge", "output"))
"""Parts of a captioner without and with the image merged, beside those of every one."""


def _misfits(model: runtime.Model, settings: _Captioning) -> Iterator[str]:
    """What does not fit."""
    count, width = len(settings.words), settings.encoder.width
    parts = model.parts
    known = [{first, "words", *more} for first in ("image", "state") for more in _MERGED]
    if set(parts) not in known:
        yield (
            f"its parts are {sorted(parts)!r:.80}, not image and words, or merge and output too, "
            "or state instead of image"
        )
        return
    image, words, read = _injected(parts), parts["words"], model.features
    merge, output = parts.get("merge", image), parts.get("output", model)
    for part in (image, merge):
        if part.features != (width,):
            yield f"its encoder gives {width} numbers, but the network reads {_told(part.features)}"
    ways = {name: parts[name].output_features for name in ("image", "words") if name in parts}
    if len(read) != 1 or any(way != read for way in ways.values()):
        given = " and ".join(f"{_told(way)} ({name})" for name, way in ways.items())
        yield f"its parts give {given} numbers, but the decoder reads {_told(read)}"
    sums = {model.output_features, merge.output_features, output.features}
    if merge is not image and len(sums) > 1:
        yield f"what is merged has {' and '.join(sorted(map(_told, sums)))} numbers"
    tables = [matrix.shape for matrix in words.matrices]
    if not words.takes_ids or tables != [(count, *read)]:
        yield f"it has {count} words, but its part that reads them has the tables {tables!r:.80}"
    if output.output_features != (count,):
        yield f"it has {count} words, but the network {_told(output.output_features)} outputs"


def _told(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes)) or "ids"
