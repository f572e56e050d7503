"""BLEU of a corpus (Papineni et al. 2002), with the smoothing of the COCO evaluation."""

from collections import Counter
from collections.abc import Sequence
from math import exp

import numpy as np

from growprune.metrics.captions.ngrams import ORDERS, NGram, ngrams
from growprune.metrics.captions.pairs import Split, split_pairs
from growprune.metrics.captions.tokens import tokenize

# Added above and below the line: without any match a score is tiny, and nothing is divided by 0.
ABOVE, BELOW = 1e-15, 1e-9


def bleu(
    references: Sequence[Sequence[str]], candidates: Sequence[str], split: Split = tokenize
) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of a whole corpus, in [0, 1].

    BLEU-n is the geometric mean over 1 to n tokens of the share of the candidates' n-grams that
    a reference has, too (each as often as in the reference that has it most), times the brevity
    penalty `exp(1 - reference length / length)` of too short a corpus. An image's reference
    length is that of the reference closest in length, of two the shorter.

    Args:
        references: Sentences of each image, one or more.
        candidates: A sentence for each image.
        split: From a sentence to its tokens.
    """
    found, written = np.zeros(ORDERS), np.zeros(ORDERS)
    length = reference_length = 0
    for sentences, candidate in split_pairs(references, candidates, split):
        found += _matches(ngrams(candidate), [ngrams(sentence) for sentence in sentences])
        written += np.maximum(len(candidate) - np.arange(ORDERS), 0)
        length += len(candidate)
        reference_length += _closest([len(sentence) for sentence in sentences], len(candidate))
    shares = (found + ABOVE) / (written + BELOW)
    means = np.cumprod(shares) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (length + ABOVE) / (reference_length + BELOW)
    first, second, third, fourth = (means * exp(min(0.0, 1 - 1 / ratio))).tolist()
    return first, second, third, fourth


def _matches(counts: Counter[NGram], references: Sequence[Counter[NGram]]) -> list[int]:
    """How many n-grams of 1, 2, ... tokens a reference has, too."""
    total = [0] * ORDERS
    for ngram, count in counts.items():
        most = max(reference.get(ngram, 0) for reference in references)
        total[len(ngram) - 1] += min(count, most)
    return total


def _closest(lengths: Sequence[int], length: int) -> int:
    return min(lengths, key=lambda reference: (abs(reference - length), reference))
