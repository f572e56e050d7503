"""ROUGE-L: the longest common subsequence of candidate and reference (Lin 2004)."""

from collections.abc import Sequence
from statistics import fmean

from growprune.metrics.captions.pairs import Split, Tokens, split_pairs
from growprune.metrics.captions.tokens import tokenize

BETA = 1.2  # how much more recall counts than precision


def rouge_l(
    references: Sequence[Sequence[str]], candidates: Sequence[str], split: Split = tokenize
) -> float:
    """Mean of the images' ROUGE-L, in [0, 1].

    An image's score is `(1 + b^2) P R / (R + b^2 P)` with b = 1.2. P and R are the length of the
    longest common subsequence over that of the candidate and of the reference, each taken from
    the reference where it is highest. A sentence without tokens counts as one token that only
    another such sentence has.

    Args:
        references: Sentences of each image, one or more.
        candidates: A sentence for each image.
        split: From a sentence to its tokens.
    """
    pairs = split_pairs(references, candidates, split)
    return fmean(_score(sentences, candidate) for sentences, candidate in pairs)


def _score(references: Sequence[Tokens], candidate: Tokens) -> float:
    written = candidate or [""]
    precision = recall = 0.0
    for reference in references:
        expected = reference or [""]
        common = _common_subsequence(expected, written)
        precision = max(precision, common / len(written))
        recall = max(recall, common / len(expected))
    if precision == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest sequence of tokens that both have in this order."""
    lengths = [0] * (len(second) + 1)  # with the first 0, 1, ... tokens of `second`
    for token in first:
        before = lengths
        lengths = [0]
        for column, other in enumerate(second):
            longer = before[column] + 1 if token == other else before[column + 1]
            lengths.append(max(longer, lengths[column]))
    return lengths[-1]
