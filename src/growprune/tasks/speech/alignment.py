"""Where a finished run hears the words of what it learnt from."""

import torch

from growprune.data import Corpus, WordSpan, normalise_text
from growprune.decoding import align_words
from growprune.errors import DataError
from growprune.tasks.speech.recognizer import Recognizer
from growprune.tasks.speech.task import SpeechTask


def align_run(recognizer: Recognizer, corpus: Corpus) -> dict[str, tuple[WordSpan, ...]]:
    """Cut a corpus's recordings into words, by utterance id: those of the run's training splits.

    Raises:
        DataError: the corpus lacks a split, two utterances have one id, or one is too short.
    """
    task = SpeechTask(recognizer.recipe, corpus)
    found: dict[str, tuple[WordSpan, ...]] = {}
    for split in recognizer.recipe.data.train_splits:
        with torch.inference_mode():
            scored = list(task.score(recognizer.model, split, torch.device("cpu")))
        for row in scored:
            if row.utterance.id in found:
                raise DataError(
                    f"{row.utterance.audio}: its id {row.utterance.id} is another utterance's, "
                    "too; give every utterance an id of its own in the manifests"
                )
            try:
                words = align_words(
                    row.log_probs,
                    normalise_text(row.utterance.text),
                    recognizer.recipe.data.letters,
                    recognizer.seconds_per_frame,
                )
            except ValueError as error:
                raise DataError(f"{row.utterance.audio}: {error}; leave it out") from None
            found[row.utterance.id] = tuple(WordSpan(w.text, w.start, w.end) for w in words)
    return found
