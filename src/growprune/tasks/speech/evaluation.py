"""Error rates of finished runs."""

import torch

from growprune.data import Corpus
from growprune.decoding import Decoder
from growprune.metrics import Evaluation, Transcript
from growprune.tasks.speech.recognizer import Recognizer
from growprune.tasks.speech.task import SpeechTask


def evaluate_run(
    recognizer: Recognizer, corpus: Corpus, split: str, decoder: Decoder | None = None
) -> Evaluation:
    """Transcribe a split and compare.

    Raises:
        DataError: the corpus lacks the split, or a file of it cannot be used.
    """
    task = SpeechTask(recognizer.recipe, corpus)
    with torch.inference_mode():
        scored = list(task.score(recognizer.model, split, torch.device("cpu")))
    return Evaluation.of(
        Transcript(
            row.utterance.id,
            row.utterance.text,
            recognizer.decode(row.log_probs, decoder).text,
        )
        for row in scored
    )
