"""Speech recognition as a task: a corpus, the recogniser, CTC, word error rate."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from growprune.data import (
    Alphabet,
    Corpus,
    Utterance,
    audio_seconds,
    check_utterances,
    extract,
    frames_needed,
    load_audio,
    spec_augment,
    speed_perturb,
)
from growprune.decoding import greedy
from growprune.metrics import character_error_rate, totals, word_error_rate
from growprune.tasks.speech.model import SpeechModel
from growprune.tasks.speech.settings import SpeechRecipe

_CACHED_NUMBERS = 1_000_000_000
"""Features are kept in memory up to this many numbers (4 GB), then computed again each time."""


@dataclass(frozen=True)
class SpeechBatch:
    """Padded features `(batch, time, bands)`, their lengths, and all transcripts in one row."""

    features: torch.Tensor
    lengths: torch.Tensor
    letters: torch.Tensor
    letter_counts: torch.Tensor


@dataclass(frozen=True)
class Scored:
    """One utterance's log-probabilities `(output time, symbols)` and CTC loss per letter."""

    utterance: Utterance
    log_probs: np.ndarray
    loss: float


class SpeechTask:
    """A recipe on a corpus; `training.task.Task` says what each part promises.

    Raises:
        DataError: an utterance of the training or dev split cannot be used.
    """

    metric = "wer"
    mode = "min"
    extras: Mapping[str, Any] = {}

    def __init__(self, recipe: SpeechRecipe, corpus: Corpus, seed: int = 0) -> None:
        self.recipe = recipe
        self.corpus = corpus
        self.seed = seed
        self.alphabet = Alphabet(recipe.data.letters)
        self._cache: dict[tuple[Path, float], np.ndarray] = {}
        self._cached_numbers = 0

    def build_model(self) -> SpeechModel:
        """A recogniser with new weights."""
        return build_model(self.recipe)

    @cached_property
    def examples(self) -> tuple[Utterance, ...]:
        """The utterances learnt from, checked together with the dev split's."""
        with torch.device("meta"):
            stride = self.build_model().stride
        output_rate = 1000 / self.recipe.data.features.hop_ms / stride
        learnt = self.recipe.data.train_splits
        for split in dict.fromkeys((*learnt, "dev")):
            check_utterances(self.corpus.split(split), self.alphabet, output_rate)
        return tuple(row for split in learnt for row in self.corpus.split(split))

    @cached_property
    def seconds(self) -> list[float]:
        """Lengths of the training utterances."""
        return [_seconds(utterance) for utterance in self.examples]

    def batches(self, epoch: int) -> list[list[int]]:
        """Utterances of like length together; the batches' order is shuffled after epoch 0."""
        lengths = [s / self._speed(index, epoch) for index, s in enumerate(self.seconds)]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = self.recipe.training.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        if epoch > 0 or not self.recipe.data.sorted_first_epoch:
            np.random.default_rng((self.seed, epoch)).shuffle(batches)
        return batches

    def load(self, examples: Sequence[int], epoch: int) -> SpeechBatch:
        """Read, change in speed, extract features and hide parts of them."""
        return self._collate(
            [self.examples[index].text for index in examples],
            [self._augmented(index, epoch) for index in examples],
        )

    def describe(self, examples: Sequence[int]) -> str:
        """Names of the first few utterances."""
        names = [self.examples[index].id for index in examples]
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

    def loss(
        self, model: torch.nn.Module, batch: SpeechBatch, device: torch.device
    ) -> torch.Tensor:
        """CTC loss per letter, averaged over the batch, with the lower layers' where asked."""
        factor = self.recipe.loss.intermediate
        log_probs, lengths = model(batch.features.to(device), batch.lengths, every_layer=factor > 0)
        if not factor:
            return _ctc(log_probs, lengths, batch).mean()
        *below, last = (_ctc(layer, lengths, batch).mean() for layer in log_probs)
        return last + factor * sum(below)

    def score(self, model: torch.nn.Module, split: str, device: torch.device) -> Iterator[Scored]:
        """The model's view of every utterance of a split, shortest first."""
        utterances = sorted(self.corpus.split(split), key=_seconds)
        size = self.recipe.training.batch_size
        for start in range(0, len(utterances), size):
            chunk = utterances[start : start + size]
            batch = self._collate([u.text for u in chunk], [self._features(u, 1.0) for u in chunk])
            log_probs, lengths = model(batch.features.to(device), batch.lengths)
            losses = _ctc(log_probs, lengths, batch).tolist()
            rows = log_probs.cpu().numpy()
            for utterance, row, length, loss in zip(
                chunk, rows, lengths.tolist(), losses, strict=True
            ):
                yield Scored(utterance, row[:length], loss)

    def evaluate(
        self, model: torch.nn.Module, split: str, device: torch.device
    ) -> dict[str, float]:
        """Loss and greedy word and character error rates of a split, as fractions."""
        scored = list(self.score(model, split, device))
        found = [greedy(row.log_probs, self.alphabet.letters).text for row in scored]
        wanted = [row.utterance.text for row in scored]
        return {
            "loss": sum(row.loss for row in scored) / len(scored),
            "wer": word_error_rate(wanted, found),
            "cer": character_error_rate(wanted, found),
        }

    def cost(
        self, model: torch.nn.Module, masks: Mapping[str, torch.Tensor]
    ) -> dict[str, dict[str, float]]:
        """Weights, and FLOPs per second of audio."""
        assert isinstance(model, SpeechModel)
        return totals(model.operations(masks, 1000 / self.recipe.data.features.hop_ms), "second")

    def data_summary(self) -> dict[str, Any]:
        """Name of the corpus; utterances and seconds of every split."""
        splits = {
            name: {
                "utterances": len(utterances),
                "seconds": round(sum(map(_seconds, utterances)), 1),
            }
            for name, utterances in self.corpus.splits.items()
        }
        return {"name": self.corpus.name, "splits": splits}

    def _speed(self, index: int, epoch: int) -> float:
        """The speed factor of an utterance in an epoch; none that makes it too short for CTC."""
        speeds = self.recipe.data.speeds
        drawn = speeds[np.random.default_rng((self.seed, epoch, index)).integers(len(speeds))]
        return 1.0 if drawn > self._fastest[index] else drawn

    @cached_property
    def _fastest(self) -> list[float]:
        """How many times every training utterance could be sped up before CTC has no room."""
        with torch.device("meta"):
            model = self.build_model()
        settings = self.recipe.data.features
        room = []
        for utterance, seconds in zip(self.examples, self.seconds, strict=True):
            letters = self.alphabet.encode(utterance.text)
            frames = model.output_length(settings.frames(int(seconds * settings.sample_rate)))
            room.append((frames - 1) / frames_needed(letters))
        return room

    def _augmented(self, index: int, epoch: int) -> np.ndarray:
        """Features `(time, bands)` of a training utterance, as this epoch wants them."""
        features = self._features(self.examples[index], self._speed(index, epoch))
        if self.recipe.data.spec_augment is None:
            return features
        rng = np.random.default_rng((self.seed, epoch, index, 1))
        return spec_augment(features, self.recipe.data.spec_augment, rng)

    def _features(self, utterance: Utterance, speed: float) -> np.ndarray:
        """Features `(time, bands)` of an utterance at a speed, kept while there is room."""
        key = (utterance.audio, speed)
        if key in self._cache:
            return self._cache[key]
        settings = self.recipe.data.features
        wave = load_audio(utterance.audio, settings.sample_rate)
        features = extract(speed_perturb(wave, speed), settings)
        if self._cached_numbers + features.size <= _CACHED_NUMBERS:
            self._cache[key] = features
            self._cached_numbers += features.size
        return features

    def _collate(self, texts: Sequence[str], features: Sequence[np.ndarray]) -> SpeechBatch:
        letters = [self.alphabet.encode(text) for text in texts]
        return SpeechBatch(
            features=torch.nn.utils.rnn.pad_sequence(
                [torch.from_numpy(rows) for rows in features], batch_first=True
            ),
            lengths=torch.tensor([len(rows) for rows in features]),
            letters=torch.tensor([number for row in letters for number in row]),
            letter_counts=torch.tensor([len(row) for row in letters]),
        )


def build_model(recipe: SpeechRecipe) -> SpeechModel:
    """The recipe's recogniser with new weights."""
    return SpeechModel(recipe.model, recipe.data.features.columns, len(recipe.data.letters) + 1)


def _ctc(log_probs: torch.Tensor, lengths: torch.Tensor, batch: SpeechBatch) -> torch.Tensor:
    """CTC loss per letter of every utterance, `(batch,)`."""
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        batch.letters.to(log_probs.device),
        lengths,
        batch.letter_counts,
        reduction="none",
    )
    return losses / batch.letter_counts.to(losses.device)


def _seconds(utterance: Utterance) -> float:
    return audio_seconds(utterance.audio) if utterance.duration is None else utterance.duration
