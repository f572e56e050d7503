"""Error rates and latency of finished runs."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from growprune.data import Corpus, load_audio
from growprune.metrics import ErrorCounts, character_error_rate, word_errors
from growprune.tasks.speech.recognizer import Decoder, Recognizer
from growprune.tasks.speech.task import SpeechTask


@dataclass(frozen=True)
class Transcript:
    """What was said, and what was understood."""

    name: str
    reference: str
    text: str


@dataclass(frozen=True)
class Evaluation:
    """A split's transcripts and error rates (fractions)."""

    transcripts: tuple[Transcript, ...]
    words: ErrorCounts
    wer: float
    cer: float

    @property
    def scores(self) -> dict[str, float]:
        """The figures as the record keeps them."""
        return {"wer": self.wer, "cer": self.cer}


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
    transcripts = tuple(
        Transcript(
            row.utterance.id,
            row.utterance.text,
            recognizer.decode(row.log_probs, decoder).text,
        )
        for row in scored
    )
    references = [row.reference for row in transcripts]
    found = [row.text for row in transcripts]
    words = word_errors(references, found)
    return Evaluation(transcripts, words, words.rate, character_error_rate(references, found))


def measure_latency(
    recognizers: Sequence[Recognizer], corpus: Corpus, split: str, utterances: int = 30
) -> list[dict[str, Any]]:
    """Time from samples to text, one utterance at a time, on one thread, by turns.

    Each figure is the median over the split's first utterances of the fastest of three runs, so
    that all recognisers meet the same disturbances.

    Returns:
        For every recogniser the record's `latency`.
    """
    rate = recognizers[0].recipe.data.features.sample_rate
    waves = [load_audio(row.audio, rate) for row in corpus.split(split)[:utterances]]
    times: list[list[float]] = [[] for _ in recognizers]
    with _one_thread():
        for recognizer in recognizers:
            recognizer.decode(recognizer.log_probs(waves[0]))
        for wave in waves:
            for recognizer, found in zip(recognizers, times, strict=True):
                found.append(min(_seconds(recognizer, wave) for _ in range(3)))
    return [
        {
            "milliseconds": 1000 * median(found),
            "audio_seconds": sum(map(len, waves)) / rate / len(waves),
            "runs": len(waves),
            "threads": 1,
            "engine": "torch eager, masked dense arithmetic",
        }
        for found in times
    ]


def _seconds(recognizer: Recognizer, wave: Any) -> float:
    start = time.perf_counter()
    recognizer.decode(recognizer.log_probs(wave))
    return time.perf_counter() - start


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
