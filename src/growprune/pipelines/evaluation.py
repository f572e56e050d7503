"""Error rates of packed recognisers, and the latency of any."""

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any, Protocol

import numpy as np

from growprune.data import Corpus, load_audio
from growprune.decoding import Decoder, Hypothesis
from growprune.metrics import Evaluation, Transcript, by_turns
from growprune.pipelines.recognizer import Recognizer


class Transcriber(Protocol):
    """What latency is measured of: a run's recogniser, or a packed one."""

    @property
    def engine(self) -> str:
        """What computes, as the record names it."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio it hears."""
        ...

    def log_probs(self, wave: np.ndarray) -> np.ndarray:
        """Log-probabilities `(output frames, symbols)` of audio `(samples,)`."""
        ...

    def decode(self, log_probs: np.ndarray, decoder: Decoder | None = None) -> Hypothesis:
        """The text of log-probabilities."""
        ...


def evaluate(
    recognizer: Recognizer, corpus: Corpus, split: str, decoder: Decoder | None = None
) -> Evaluation:
    """Transcribe a split, an utterance at a time, and compare.

    Raises:
        DataError: the corpus lacks the split, or a file of it cannot be used.
    """
    return Evaluation.of(
        Transcript(row.id, row.text, recognizer.transcribe(row.audio, decoder).text)
        for row in corpus.split(split)
    )


def measure_latency(
    recognizers: Sequence[Transcriber], corpus: Corpus, split: str, utterances: int = 30
) -> list[dict[str, Any]]:
    """Time from samples to text, one utterance at a time, by turns.

    The figure is the median over the split's first utterances of each one's fastest of three runs.
    torch has to be set to one thread around this call.

    Returns:
        For every recogniser the record's `latency`.
    """
    rows = corpus.split(split)[:utterances]
    taken: list[list[float]] = [[] for _ in recognizers]
    seconds = 0.0
    for row in rows:
        calls = {}
        for number, recognizer in enumerate(recognizers):
            wave = load_audio(row.audio, recognizer.sample_rate)
            calls[str(number)] = partial(_hear, recognizer, wave)
        seconds += len(wave) / recognizer.sample_rate
        found = by_turns(calls, rounds=3, turn=0.0)
        for number, times in enumerate(taken):
            times.append(found[str(number)].low)
    return [
        {
            "milliseconds": 1000 * median(times),
            "audio_seconds": seconds / len(rows),
            "runs": len(rows),
            "threads": 1,
            "engine": recognizer.engine,
        }
        for recognizer, times in zip(recognizers, taken, strict=True)
    ]


def _hear(recognizer: Transcriber, wave: np.ndarray) -> Hypothesis:
    return recognizer.decode(recognizer.log_probs(wave))
