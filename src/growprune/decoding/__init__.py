"""From a recogniser's outputs to text; runs without torch."""

from growprune.decoding.align import align
from growprune.decoding.beam import beam_search
from growprune.decoding.decoder import Decoder, language_model
from growprune.decoding.greedy import GreedyStream, greedy
from growprune.decoding.hypothesis import Hypothesis, Word
from growprune.decoding.ngram import NGramModel

__all__ = [
    "Decoder",
    "GreedyStream",
    "Hypothesis",
    "NGramModel",
    "Word",
    "align",
    "beam_search",
    "greedy",
    "language_model",
]
