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
    """Transcribe a split and compare, on a GPU if the recogniser learnt on one and there is one.

    Raises:
        DataError: the corpus lacks the split, or a file of it cannot be used.
    """
    task = SpeechTask(recognizer.recipe, corpus)
    on_gpu = recognizer.recipe.training.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    with torch.inference_mode():
        scored = list(task.score(recognizer.model.to(device), split, device))
    recognizer.model.to("cpu")
    return Evaluation.of(
        Transcript(
            row.utterance.id,
            row.utterance.text,
            recognizer.decode(row.log_probs, decoder).text,
        )
        for row in scored
    )
