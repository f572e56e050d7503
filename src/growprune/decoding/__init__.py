"""From a recogniser's outputs to text; runs without torch."""

from growprune.decoding.align import align
from growprune.decoding.beam import beam_search
from growprune.decoding.greedy import greedy
from growprune.decoding.hypothesis import Hypothesis, Word
from growprune.decoding.ngram import NGramModel

__all__ = ["Hypothesis", "NGramModel", "Word", "align", "beam_search", "greedy"]
