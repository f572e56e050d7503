"""From a recogniser's outputs to text; runs without torch."""

from growprune.decoding.align import align, align_words
from growprune.decoding.beam import beam_search
from growprune.decoding.decoder import Decoder, language_model
from growprune.decoding.greedy import GreedyStream, greedy
from growprune.decoding.hypothesis import Hypothesis, Word
from growprune.decoding.ngram import NGramModel
from growprune.decoding.sentences import Sentence, sample, search
from growprune.decoding.writer import Caption, Language, Writer

__all__ = [
    "Caption",
    "Decoder",
    "GreedyStream",
    "Hypothesis",
    "Language",
    "NGramModel",
    "Sentence",
    "Word",
    "Writer",
    "align",
    "align_words",
    "beam_search",
    "greedy",
    "language_model",
    "sample",
    "search",
]
