"""Opening what commands name: a packed model, or the folder of a run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from growprune.data import open_corpus
from growprune.decoding import Decoder, NGramModel, language_model
from growprune.pipelines import Recognizer

if TYPE_CHECKING:
    from growprune.tasks import speech

AnyRecognizer: TypeAlias = Union[Recognizer, "speech.Recognizer"]

_LEAST_BEAM = 16
"""With a language model, unless a command says otherwise."""


def open_recognizer(path: Path) -> AnyRecognizer:
    """A packed file's recogniser, or a run's; only the latter loads torch.

    Raises:
        ModelFileError: the file is missing, damaged or not a recogniser's.
        CheckpointError: the folder is not a finished run's.
    """
    if not path.is_dir():
        return Recognizer.load(path)
    from growprune.tasks import speech

    return speech.Recognizer.from_run(path)


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


def torch_on_one_thread(recognizers: Sequence[AnyRecognizer]) -> AbstractContextManager[None]:
    """A block in which torch computes on one thread, if any recogniser uses it."""
    if all(isinstance(recognizer, Recognizer) for recognizer in recognizers):
        return nullcontext()
    from growprune.tasks.speech import one_thread

    return one_thread()
