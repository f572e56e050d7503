"""Captioning as a task: images with captions and features, the decoder, cross-entropy, CIDEr-D."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from growprune.data import CaptionCorpus, CaptionedImage, FeatureTable, Vocabulary
from growprune.decoding import Writer
from growprune.errors import DataError
from growprune.metrics import totals
from growprune.metrics.captions import CiderD, score_captions
from growprune.tasks.captioning.captioner import Captioner
from growprune.tasks.captioning.distillation import open_teachers
from growprune.tasks.captioning.model import CaptionModel, StandardNorm
from growprune.tasks.captioning.settings import CaptioningRecipe
from growprune.tasks.distillation import Teachers, agreement, divergence

WORDS_PER_CAPTION = 10
"""FLOPs are given for a caption of so many words."""
_END = 0
_PAIRS_AT_ONCE = 500


@dataclass(frozen=True)
class CaptionBatch:
    """Images and a caption of each.

    Attributes:
        images: numbers of the images among those learnt from.
        features: `(batch, width)`.
        words: `(batch, time)` ids, padded.
        lengths: `(batch,)` words of each caption.
        drawn_by: a seed; the captions are to be drawn instead, and rewarded. None: they are learnt.
    """

    images: Sequence[int]
    features: torch.Tensor
    words: torch.Tensor
    lengths: torch.Tensor
    drawn_by: Sequence[int] | None = None

    @property
    def targets(self) -> torch.Tensor:
        """Every caption's words and its end, caption after caption, `(sum of lengths + batch,)`."""
        ends = self.words.new_full((len(self.words), 1), _END)
        steps = torch.arange(self.words.shape[1] + 1)
        following = torch.cat([self.words, ends], dim=1)
        following[torch.arange(len(following)), self.lengths] = _END
        return following[steps <= self.lengths.unsqueeze(1)]


class CaptioningTask:
    """A recipe on a corpus with features; `training.task.Task` says what each part promises.

    Args:
        recipe: model and training.
        corpus: images with captions.
        features: of its images.
        seed: decides order and which captions are learnt.

    Raises:
        DataError: a split is missing, an image has no features, or a caption has no words.
        CheckpointError: a teacher's folder does not hold a finished run.
        RecipeError: a teacher's words or features are others.
    """

    metric = "cider_d"
    mode = "max"

    def __init__(
        self,
        recipe: CaptioningRecipe,
        corpus: CaptionCorpus,
        features: FeatureTable,
        seed: int = 0,
    ) -> None:
        self.recipe = recipe
        self.corpus = corpus
        self.features = features
        self.seed = seed
        learnt = recipe.data.train_splits
        self.images = tuple(image for split in learnt for image in corpus.split(split))
        dev = corpus.split("dev")
        features.require(image.name for image in (*self.images, *dev))
        _check_encoder(recipe, features)
        texts = (text for image in self.images for text in image.captions)
        self.vocabulary = Vocabulary.build(texts, recipe.data.least)
        self._captions = [self._encoded(image) for image in self.images]
        for image in dev:
            self._encoded(image)  # what is wrong with it is told now
        self.teachers: Teachers | None = None
        if recipe.loss.teachers:
            self.teachers = open_teachers(recipe.loss.teachers, self.vocabulary, self.encoder)

    @property
    def encoder(self) -> dict[str, Any]:
        """What computes the features."""
        return self.recipe.encoder.model_dump() | {"width": self.features.width}

    @property
    def extras(self) -> dict[str, Any]:
        """The words, and what computes the features."""
        return {"words": list(self.vocabulary.words), "encoder": self.encoder}

    def build_model(self) -> CaptionModel:
        """A decoder with new weights."""
        model = CaptionModel(self.recipe.model, self.features.width, len(self.vocabulary))
        if isinstance(model.normalise, StandardNorm):
            names = [image.name for image in self.images]
            model.normalise.fit(torch.from_numpy(self.features.rows(names)))
        return model

    @cached_property
    def examples(self) -> list[tuple[int, int]]:
        """All that can be learnt from: image, and number of its caption."""
        counts = map(len, self._captions)
        return [(image, number) for image, count in enumerate(counts) for number in range(count)]

    def batches(self, epoch: int) -> list[list[int]]:
        """All examples, shuffled, or one of each image by chance.

        Of each image there is one if the recipe says so, and where captions are drawn and rewarded.
        """
        rng = np.random.default_rng((self.seed, epoch))
        if self.recipe.data.captions == "one" or self._draws(epoch):
            counts = np.array([len(captions) for captions in self._captions])
            chosen = np.cumsum(counts) - counts + rng.integers(counts)
        else:
            chosen = np.arange(len(self.examples))
        order = rng.permutation(chosen).tolist()
        size = self.recipe.training.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def load(self, examples: Sequence[int], epoch: int) -> CaptionBatch:
        """Features and captions."""
        pairs = [self.examples[index] for index in examples]
        names = [self.images[image].name for image, _ in pairs]
        captions = [self._captions[image][number] for image, number in pairs]
        batch = self._batch([image for image, _ in pairs], names, captions)
        drawn_by = (self.seed, epoch, examples[0])
        return replace(batch, drawn_by=drawn_by) if self._draws(epoch) else batch

    def describe(self, examples: Sequence[int]) -> str:
        """Names of the first few images."""
        names = [self.images[self.examples[index][0]].name for index in examples]
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

    def loss(
        self, model: torch.nn.Module, batch: CaptionBatch, device: torch.device
    ) -> torch.Tensor:
        """Cross-entropy per word, or the drawn captions' where they are rewarded.

        To the former comes, where there are teachers, the divergence from them per word.
        """
        if batch.drawn_by is not None:
            return self._self_critical(model, batch, device)
        settings = self.recipe.loss
        logits, targets = _scored(model, batch, device)
        loss = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
        if self.teachers is None:
            return loss
        told = self.teachers.answers(*_read(batch, device))
        wanted = agreement(told, settings.temperature)
        return loss + settings.distill * divergence(logits, wanted, settings.temperature).mean()

    def evaluate(
        self, model: torch.nn.Module, split: str, device: torch.device
    ) -> dict[str, float]:
        """Cross-entropy per word, and scores of greedy captions, of a split."""
        assert isinstance(model, CaptionModel)
        images = self.corpus.split(split)
        features = self.features.rows([image.name for image in images])
        captioner = Captioner(model, self.recipe, self.vocabulary, self.encoder)
        written = [caption.text for caption in captioner.caption(features, beam=1)]
        scores = score_captions([image.captions for image in images], written)
        return {"loss": self._mean_loss(model, images, device), **scores.as_dict()}

    def cost(
        self, model: torch.nn.Module, masks: Mapping[str, torch.Tensor]
    ) -> dict[str, dict[str, float]]:
        """Weights, and FLOPs of a caption of `WORDS_PER_CAPTION` words."""
        assert isinstance(model, CaptionModel)
        return totals(model.operations(masks, WORDS_PER_CAPTION), "caption")

    def data_summary(self) -> dict[str, Any]:
        """Name of the corpus; images and captions of every split, the words, and teachers."""
        splits = {
            name: {"images": len(images), "captions": sum(len(i.captions) for i in images)}
            for name, images in self.corpus.splits.items()
        }
        summary: dict[str, Any] = {"name": self.corpus.name, "splits": splits}
        summary["words"] = len(self.vocabulary)
        if self.teachers:
            summary["teachers"] = self.teachers.summary
        return summary

    def _draws(self, epoch: int) -> bool:
        """Whether captions are drawn and rewarded in this epoch."""
        settings = self.recipe
        return epoch >= settings.training.epochs - settings.loss.self_critical_epochs

    @cached_property
    def _reward(self) -> CiderD:
        """CIDEr-D against the captions learnt from."""
        return CiderD([image.captions for image in self.images])

    def _self_critical(
        self, model: torch.nn.Module, batch: CaptionBatch, device: torch.device
    ) -> torch.Tensor:
        """Make drawn captions likelier by as much as they beat the others of their image.

        With the reward r, of a caption w drawn for an image and r' the mean reward of the image's
        other draws, this is -(r(w) - r') log p(w), averaged over all words. Nothing is dropped but
        features, before all else: p has to be what w was drawn from.
        """
        inner = getattr(model, "module", model)  # without the wrapper of several processes
        assert isinstance(inner, CaptionModel)
        was_training = inner.training
        captioner = Captioner(inner, self.recipe, self.vocabulary, self.encoder)
        rng = np.random.default_rng(batch.drawn_by)
        settings, longest = self.recipe.loss, self.recipe.data.longest
        draws, dropout = settings.draws, settings.self_critical_feature_dropout
        seen = inner.thinned(batch.features.to(device), dropout) if dropout else batch.features
        features = seen.cpu().repeat_interleave(draws, dim=0)
        writer = Writer(longest=longest, temperature=1.0, seed=int(rng.integers(2**63)))
        drawn = writer(captioner, features.numpy())
        images = np.repeat(batch.images, draws)
        rewards = torch.tensor(
            [self._rewarded(i, d.words) for i, d in zip(images, drawn, strict=True)]
        ).view(-1, draws)
        others = (rewards.sum(1, keepdim=True) - rewards) / (draws - 1)
        words, lengths = _padded([d.words for d in drawn])
        batch = replace(batch, features=features, words=words, lengths=lengths)
        surprise = F.cross_entropy(*_scored(model, batch, device), reduction="none")
        inner.train(was_training)
        gain = (rewards - others).flatten().repeat_interleave(lengths + 1)
        gain[lengths.add(1).cumsum(0)[lengths == longest] - 1] = 0  # an end that was not drawn
        return (gain.to(device) * surprise).mean()

    def _rewarded(self, image: int, words: Sequence[int]) -> float:
        return self._reward.score(image, self.vocabulary.decode(words))

    def _mean_loss(
        self, model: CaptionModel, images: Sequence[CaptionedImage], device: torch.device
    ) -> float:
        """Cross-entropy per word over all captions."""
        pairs = [(image.name, words) for image in images for words in self._encoded(image)]
        total, count = 0.0, 0
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            names, captions = zip(*pairs[start : start + _PAIRS_AT_ONCE], strict=True)
            batch = self._batch((), names, captions)
            logits, targets = _scored(model, batch, device)
            total += float(F.cross_entropy(logits, targets, reduction="sum"))
            count += len(targets)
        return total / count

    def _batch(
        self, images: Sequence[int], names: Sequence[str], captions: Sequence[Sequence[int]]
    ) -> CaptionBatch:
        words, lengths = _padded(captions)
        return CaptionBatch(images, torch.from_numpy(self.features.rows(names)), words, lengths)

    def _encoded(self, image: CaptionedImage) -> list[list[int]]:
        """Words of every caption, no more than the longest."""
        captions = [self.vocabulary.encode(text) for text in image.captions]
        if not all(captions):
            raise DataError(
                f"corpus {self.corpus.name} in {self.corpus.folder}: a caption of {image.name} has "
                "no word; write one or remove it"
            )
        return [words[: self.recipe.data.longest] for words in captions]


def _scored(
    model: torch.nn.Module, batch: CaptionBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of every word of known captions and of their ends, and which words these are."""
    return model(*_read(batch, device)), batch.targets.to(device)


def _read(
    batch: CaptionBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a model reads to score every word of known captions."""
    return batch.features.to(device), batch.words.to(device), batch.lengths


def _padded(captions: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids `(batch, time)`, and the captions' lengths `(batch,)`."""
    lengths = torch.tensor([len(words) for words in captions])
    words = torch.zeros(len(captions), int(lengths.max()), dtype=torch.long)
    for row, caption in zip(words, captions, strict=True):
        row[: len(caption)] = torch.tensor(caption, dtype=torch.long)
    return words, lengths


def _check_encoder(recipe: CaptioningRecipe, features: FeatureTable) -> None:
    """Raise DataError if the features are known to be of another encoder than the recipe's."""
    if not features.encoder:
        return
    for key, wanted in recipe.encoder.model_dump().items():
        if features.encoder.get(key, wanted) != wanted:
            raise DataError(
                f"{features.source}: features have encoder {key} {features.encoder[key]!r}, but "
                f"the recipe has {wanted!r}; set encoder.{key} or compute them again"
            )
