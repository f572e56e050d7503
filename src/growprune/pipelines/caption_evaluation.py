"""Scores and latency of captioners, packed or of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Protocol

import numpy as np

from growprune.data import CaptionCorpus, CaptionedImage, FeatureTable
from growprune.decoding import Caption
from growprune.errors import DataError
from growprune.metrics import CaptionScores, by_turns, score_captions

BEAMS = {1: "milliseconds", 3: "milliseconds_beam_3"}
"""Widths that latency is measured with, and what the record calls it."""


class CaptionWriter(Protocol):
    """What is scored and measured: a run's captioner, or a packed one."""

    @property
    def engine(self) -> str:
        """What computes, as the record names it."""
        ...

    @property
    def encoder(self) -> Mapping[str, Any]:
        """What computes its features: `name`, `pool` and `width`."""
        ...

    def caption(
        self, features: np.ndarray, *, beam: int = 3, length_penalty: float = 0.0
    ) -> list[Caption]:
        """Captions of images `(images, width)`."""
        ...


@dataclass(frozen=True)
class WrittenCaption:
    """An image of a corpus, and what was written for it."""

    image: CaptionedImage
    text: str


@dataclass(frozen=True)
class CaptionEvaluation:
    """A split's captions and their scores."""

    captions: tuple[WrittenCaption, ...]
    found: CaptionScores

    @property
    def scores(self) -> dict[str, float]:
        """The figures as the record keeps them."""
        return self.found.as_dict()


def evaluate_captions(
    captioner: CaptionWriter,
    corpus: CaptionCorpus,
    features: FeatureTable,
    split: str,
    *,
    beam: int = 1,
    length_penalty: float = 0.0,
) -> CaptionEvaluation:
    """Write captions for a split, and compare them with its own.

    Raises:
        DataError: the corpus lacks the split, or an image has no features that fit.
    """
    images = corpus.split(split)
    rows = split_features(captioner, corpus, features, split)
    found = captioner.caption(rows, beam=beam, length_penalty=length_penalty)
    texts = [caption.text for caption in found]
    scores = score_captions([image.captions for image in images], texts)
    return CaptionEvaluation(tuple(map(WrittenCaption, images, texts)), scores)


def split_features(
    captioner: CaptionWriter,
    corpus: CaptionCorpus,
    features: FeatureTable,
    split: str,
    most: int | None = None,
) -> np.ndarray:
    """The features `(images, width)` of a split's images, or of its first `most`.

    Raises:
        DataError: see `evaluate_captions`.
    """
    names = [image.name for image in corpus.split(split)][:most]
    check_features(captioner, features)
    return features.rows(names)


def check_features(captioner: CaptionWriter, features: FeatureTable) -> None:
    """Make sure that features are such as a captioner was trained with.

    Raises:
        DataError: they are of another width or, where the table says so, of another encoder.
    """
    features.require((), captioner.encoder["width"])
    found = features.encoder or {}
    for key in ("name", "pool"):
        wanted = captioner.encoder[key]
        if found.get(key, wanted) != wanted:
            raise DataError(
                f"{features.source}: features have encoder {key} {found[key]!r}, but the captioner "
                f"was trained with {wanted!r}; compute them with growprune data features"
            )


def measure_caption_latency(
    captioners: Sequence[CaptionWriter], features: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Time from an image's features to its caption, one image at a time, by turns.

    The figures are medians over the images of each one's fastest of three runs. torch has to be
    set to one thread around this call.

    Args:
        captioners: what to measure.
        features: `(images, width)` for each of them, of the same images.

    Returns:
        For every captioner the record's `latency`; `milliseconds` is greedy.
    """
    taken: dict[str, list[float]] = {}
    for rows in zip(*features, strict=True):
        calls = {
            f"{number} {beam}": partial(captioner.caption, row[None], beam=beam)
            for number, (captioner, row) in enumerate(zip(captioners, rows, strict=True))
            for beam in BEAMS
        }
        for name, seconds in by_turns(calls, rounds=3, turn=0.0).items():
            taken.setdefault(name, []).append(seconds.low)
    return [
        {
            **{key: 1000 * median(taken[f"{number} {beam}"]) for beam, key in BEAMS.items()},
            "runs": len(features[number]),
            "threads": 1,
            "engine": captioner.engine,
        }
        for number, captioner in enumerate(captioners)
    ]
