"""Decoders and language models of recognisers."""

from pathlib import Path

from growprune.cli.models import AnyRecognizer
from growprune.data import open_corpus
from growprune.decoding import Decoder, NGramModel, language_model
from growprune.pipelines import Recognizer

_LEAST_BEAM = 16
"""With a language model, unless a command says otherwise."""


def decoder_for(recognizer: AnyRecognizer, path: Path, beam: int, lm_order: int) -> Decoder:
    """A decoder whose language model is the packed one, or is made of a run's training split.

    Raises:
        GrowPruneError: there is no language model of that order, or no corpus to make it of.
    """
    if not lm_order:
        return Decoder(beam)
    if isinstance(recognizer, Recognizer):
        return Decoder(max(beam, _LEAST_BEAM), recognizer.language_model(lm_order))
    return Decoder(max(beam, _LEAST_BEAM), run_language_model(path, lm_order))


def run_language_model(run: Path, order: int) -> NGramModel:
    """An n-gram model of the transcripts a run was trained on.

    Raises:
        GrowPruneError: the folder is not a run's, or its corpus is no longer there.
    """
    from growprune.training import load_local

    corpus = open_corpus(load_local(run)["data"])
    return language_model((row.text for row in corpus.split("train")), order)
