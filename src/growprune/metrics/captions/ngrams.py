"""Runs of one to four tokens, which BLEU and CIDEr-D compare."""

from collections import Counter
from collections.abc import Sequence

ORDERS = 4

NGram = tuple[str, ...]


def ngrams(tokens: Sequence[str]) -> Counter[NGram]:
    """How often each run of 1 to `ORDERS` tokens occurs."""
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(tokens) - order + 1)
    )
