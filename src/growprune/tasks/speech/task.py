"""Speech recognition as a task: a corpus, the recogniser, CTC, word error rate."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from growprune.data import (
    Alphabet,
    Corpus,
    Utterance,
    check_utterances,
)
from growprune.decoding import greedy
from growprune.files import sha256
from growprune.metrics import character_error_rate, totals, word_error_rate
from growprune.tasks.distillation import Teachers
from growprune.tasks.speech.distillation import agreement, divergence, open_teachers
from growprune.tasks.speech.model import SpeechModel, build_model
from growprune.tasks.speech.settings import SpeechRecipe
from growprune.tasks.speech.training_set import FeatureCache, TrainingSet, seconds_of


@dataclass(frozen=True)
class SpeechBatch:
    """Padded features `(batch, time, bands)`, their lengths, and all transcripts in one row.

    Where there are teachers, `plain` is what they hear: the features without noise and with nothing
    hidden.
    """

    features: torch.Tensor
    lengths: torch.Tensor
    letters: torch.Tensor
    letter_counts: torch.Tensor
    plain: torch.Tensor | None = None


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
        self._cache = FeatureCache(recipe.data.features)

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
    def training_set(self) -> TrainingSet:
        """The examples, and what becomes of them in an epoch."""
        with torch.device("meta"):
            model = self.build_model()
        return TrainingSet(
            self.recipe.data, self.examples, self._cache, model.output_length, self.seed
        )

    @cached_property
    def teachers(self) -> Teachers | None:
        """The runs that the recipe learns from."""
        return open_teachers(self.recipe) if self.recipe.loss.teachers else None

    def batches(self, epoch: int) -> list[list[int]]:
        """Utterances of like length together; the batches' order is shuffled after epoch 0."""
        lengths = [self.training_set.seconds(index, epoch) for index in range(len(self.examples))]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = self.recipe.training.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        if epoch > 0 or not self.recipe.data.sorted_first_epoch:
            np.random.default_rng((self.seed, epoch)).shuffle(batches)
        return batches

    def load(self, examples: Sequence[int], epoch: int) -> SpeechBatch:
        """The examples as this epoch wants them."""
        batch = self._collate(
            [self.training_set.text(index, epoch) for index in examples],
            [self.training_set.features(index, epoch) for index in examples],
        )
        if self.teachers is None:
            return batch
        return replace(
            batch, plain=_padded([self.training_set.plain(index, epoch) for index in examples])
        )

    def describe(self, examples: Sequence[int]) -> str:
        """Names of the first few utterances."""
        names = [self.examples[index].id for index in examples]
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

    def loss(
        self, model: torch.nn.Module, batch: SpeechBatch, device: torch.device
    ) -> torch.Tensor:
        """CTC loss per letter, averaged over the batch, and what else the recipe asks for."""
        settings = self.recipe.loss
        every_layer = settings.intermediate > 0
        log_probs, lengths = model(
            batch.features.to(device), batch.lengths, every_layer=every_layer
        )
        layers = list(log_probs) if every_layer else [log_probs]
        *below, last = (_ctc(layer, lengths, batch).mean() for layer in layers)
        loss = last + settings.intermediate * sum(below)
        if self.teachers is None:
            return loss
        assert batch.plain is not None
        wanted = agreement(
            self.teachers, batch.plain.to(device), batch.lengths, settings.temperature
        )
        apart = divergence(layers[-1], wanted, lengths, settings.temperature)
        return loss + settings.distill * _per_letter(apart, batch).mean()

    def score(self, model: torch.nn.Module, split: str, device: torch.device) -> Iterator[Scored]:
        """The model's view of every utterance of a split, shortest first."""
        utterances = sorted(self.corpus.split(split), key=seconds_of)
        size = self.recipe.training.batch_size
        for start in range(0, len(utterances), size):
            chunk = utterances[start : start + size]
            batch = self._collate([u.text for u in chunk], [self._cache.features(u) for u in chunk])
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
        """Name of the corpus; utterances and seconds of every split; files used beside."""
        splits = {
            name: {
                "utterances": len(utterances),
                "seconds": round(sum(map(seconds_of, utterances)), 1),
            }
            for name, utterances in self.corpus.splits.items()
        }
        summary: dict[str, Any] = {"name": self.corpus.name, "splits": splits}
        if self.teachers:
            summary["teachers"] = self.teachers.summary
        if mix := self.recipe.data.mix_words:
            summary["words"] = {"file": mix.words, "sha256": sha256(mix.words)}
        return summary

    def _collate(self, texts: Sequence[str], features: Sequence[np.ndarray]) -> SpeechBatch:
        letters = [self.alphabet.encode(text) for text in texts]
        return SpeechBatch(
            features=_padded(features),
            lengths=torch.tensor([len(rows) for rows in features]),
            letters=torch.tensor([number for row in letters for number in row]),
            letter_counts=torch.tensor([len(row) for row in letters]),
        )


def _ctc(log_probs: torch.Tensor, lengths: torch.Tensor, batch: SpeechBatch) -> torch.Tensor:
    """CTC loss per letter of every utterance, `(batch,)`."""
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        batch.letters.to(log_probs.device),
        lengths,
        batch.letter_counts,
        reduction="none",
    )
    return _per_letter(losses, batch)


def _per_letter(losses: torch.Tensor, batch: SpeechBatch) -> torch.Tensor:
    """Losses of whole utterances, `(batch,)`, divided by their letters."""
    return losses / batch.letter_counts.to(losses.device)


def _padded(features: Sequence[np.ndarray]) -> torch.Tensor:
    """Utterances' features as one `(batch, time, bands)`."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(rows) for rows in features], batch_first=True
    )
