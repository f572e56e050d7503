"""CIDEr-D: consensus with the references, rare n-grams counting more (Vedantam et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from growprune.metrics.captions.ngrams import ORDERS, NGram, ngrams
from growprune.metrics.captions.pairs import Split, Tokens, check_count, split_references
from growprune.metrics.captions.tokens import tokenize

SIGMA = 6.0  # width of the Gaussian penalty on a difference in length
SCALE = 10.0


def cider_d(
    references: Sequence[Sequence[str]], candidates: Sequence[str], split: Split = tokenize
) -> float:
    """Mean CIDEr-D of the images, in [0, 10]; people's captions score 0.8 or so.

    The references themselves say how rare an n-gram is. A single image scores 0, whatever the
    candidate: each n-gram there is occurs in every image.

    Args:
        references: Sentences of each image, one or more.
        candidates: A sentence for each image.
        split: From a sentence to its tokens.
    """
    return float(CiderD(references, split).scores(candidates).mean())


class CiderD:
    """Scores candidates against the references of one corpus, whose vectors are computed once.

    An n-gram weighs its count in the sentence times `log(images) - log(images that have it)`. For
    each n of 1 to 4, candidate and reference are compared by the cosine of their vectors, with
    the candidate's weights cut at the reference's, times `exp(-d^2 / (2 * 6^2))` with d the
    difference of their lengths in 2-grams. A score is 10 times the mean over n and over the
    references. As all n-grams of a single image are in every image, a corpus of one image gives
    nothing but 0.

    Args:
        references: Sentences of each image, one or more.
        split: From a sentence to its tokens.
    """

    def __init__(self, references: Sequence[Sequence[str]], split: Split = tokenize) -> None:
        self._split = split
        self._numbers: dict[NGram, int] = {}
        self._images = [self._learn(texts) for texts in split_references(references, split)]
        self._squares = self._squared_weights()
        self._norms = [self._norm(image) for image in self._images]

    def scores(self, candidates: Sequence[str]) -> np.ndarray:
        """The scores `(images,)` of a candidate for each image."""
        check_count(len(self._images), candidates)
        return np.array([self.score(index, text) for index, text in enumerate(candidates)])

    def score(self, index: int, candidate: str) -> float:
        """The score of a candidate for the image of this index."""
        image, written = self._images[index], self._read(self._split(candidate))
        shared = np.isin(written.numbers, image.numbers)
        numbers, counts = written.numbers[shared], written.counts[:, shared]
        expected = image.counts[:, np.searchsorted(image.numbers, numbers)]
        products = (np.minimum(counts, expected) * expected) @ self._squares[numbers]
        norms = self._norm(written) * self._norms[index]
        cosines = np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0)
        penalties = np.exp(-((written.lengths - image.lengths) ** 2) / (2 * SIGMA**2))
        return float(SCALE * (cosines * penalties[:, None]).mean())

    def _learn(self, sentences: Sequence[Tokens]) -> "_Counts":
        """The references of an image; n-grams not seen before get the next numbers."""
        counted = [ngrams(tokens) for tokens in sentences]
        numbered = [
            [self._numbers.setdefault(ngram, len(self._numbers)) for ngram in found]
            for found in counted
        ]
        numbers = np.array(sorted(set().union(*numbered)), dtype=np.int64)
        counts = np.zeros((len(sentences), len(numbers)))
        for row, (columns, found) in enumerate(zip(numbered, counted, strict=True)):
            counts[row, np.searchsorted(numbers, columns)] = list(found.values())
        return _Counts(numbers, counts, _lengths(sentences))

    def _read(self, tokens: Tokens) -> "_Counts":
        """A candidate; n-grams of 1, 2, ... tokens that no reference has are -1, -2, ..."""
        found = ngrams(tokens)
        numbers = [self._numbers.get(ngram, -len(ngram)) for ngram in found]
        counts = np.array([list(found.values())], dtype=np.float64)
        return _Counts(np.array(numbers, dtype=np.int64), counts, _lengths([tokens]))

    def _squared_weights(self) -> np.ndarray:
        """The n-grams' squared weights `(n-grams, ORDERS)`, each in the column of its n.

        The last rows are those of n-grams that no reference has, in the order of their numbers;
        they weigh as much as if one image had them.
        """
        images_with = np.bincount(np.concatenate([image.numbers for image in self._images]))
        orders = [*map(len, self._numbers), *range(ORDERS, 0, -1)]
        weights = np.full(len(orders), np.log(len(self._images)))
        weights[: len(images_with)] -= np.log(images_with)
        squares = np.zeros((len(orders), ORDERS))
        squares[np.arange(len(orders)), np.array(orders) - 1] = weights**2
        return squares

    def _norm(self, counted: "_Counts") -> np.ndarray:
        """Lengths of the vectors, `(sentences, ORDERS)`."""
        return np.sqrt(counted.counts**2 @ self._squares[counted.numbers])


@dataclass(frozen=True)
class _Counts:
    """N-grams of sentences: numbers `(n-grams,)`, counts `(sentences, n-grams)`, lengths."""

    numbers: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray


def _lengths(sentences: Sequence[Tokens]) -> np.ndarray:
    return np.array([max(len(tokens) - 1, 0) for tokens in sentences])
