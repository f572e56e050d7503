"""The captioning tables of a recipe."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from growprune.settings import Settings
from growprune.tasks.distillation import DistillSettings
from growprune.training import Recipe

Fraction = Annotated[float, Field(ge=0, lt=1)]


class EncoderSettings(Settings):
    """The frozen network that the features are of; a packed model names it."""

    name: str = "efficientnet-lite0"
    pool: PositiveInt = 1
    """The last map's mean over so many parts of its height and width each, side by side."""


class DataSettings(Settings):
    """What is learnt from, and the words it is learnt in."""

    train_splits: tuple[str, ...] = Field(default=("train",), min_length=1)
    """Splits learnt from. A final run may add "dev" once everything is chosen; its dev figures
    then say nothing, and reports leave them out."""
    least: PositiveInt = 5
    """A word seen less often among the captions learnt from is unknown."""
    longest: PositiveInt = 20
    """Words of a caption, learnt or written; what goes beyond is cut off."""
    captions: Literal["all", "one"] = "all"
    """What an epoch is: every image with each of its captions, or with one of them by chance."""


class RecurrentSettings(Settings):
    """The recurrent layers; no `gate_hidden_sizes` means ordinary LSTMs."""

    layers: PositiveInt = 1
    hidden_size: PositiveInt = 512
    gate_hidden_sizes: tuple[PositiveInt, ...] = ()
    gate_dropout: Fraction = 0.0
    negative_slope: NonNegativeFloat = 0.01


class ModelSettings(Settings):
    """A decoder: the image's vector, then word after word, into recurrent layers."""

    embedding_size: PositiveInt = 512
    """Width of what the recurrent layers read: the image's vector and the words'."""
    recurrent: RecurrentSettings = RecurrentSettings()
    dropout: Fraction = 0.5
    """On what the recurrent layers read, between them, and on what they give."""
    feature_dropout: Fraction = 0.0
    """On the image's features."""
    normalise: Literal["none", "standard", "unit", "layer"] = "none"
    """Features as they are; each of mean 0 and deviation 1 over the images learnt from; so too, but
    of a deviation that makes an image's features about 1 long; or of mean 0 and deviation 1 over
    the features of each image.

    Adam moves every weight by about the learning rate, so the image's vector moves in proportion to
    the sum of its features: with thousands of them of deviation 1 it soon saturates the gates."""
    feature_deviation: PositiveFloat = 1.0
    """What "standard" and "unit" features are multiplied by. At a fraction of 1 images are learnt
    by so much slower than words, and the learning rate can be as much higher."""
    inject: Literal["pre", "init"] = "pre"
    """Whether a vector of the image is what the recurrent layers read first, or its tanh the hidden
    and cell state that they begin with, each of them the same, where they first read zeros (Tanti
    et al. 2018, arXiv 1703.09137)."""
    merge: bool = False
    """Whether a vector of the image is added to what the recurrent layers give, at every step, so
    that they need not remember what is seen (Tanti et al. 2017, arXiv 1708.02043). The image is
    injected all the same."""
    tied: bool = False
    """Whether words are written with the matrix they are read with."""

    @model_validator(mode="after")
    def _deviation_is_used(self) -> Self:
        if self.feature_deviation != 1 and self.normalise not in ("standard", "unit"):
            raise ValueError(
                f"feature_deviation is {self.feature_deviation}, but normalise is "
                f"{self.normalise!r}; set normalise to 'standard' or 'unit', or leave it at 1"
            )
        return self

    @model_validator(mode="after")
    def _tied_sizes(self) -> Self:
        if self.tied and self.embedding_size != self.recurrent.hidden_size:
            raise ValueError("tied needs embedding_size and recurrent.hidden_size to be the same")
        return self


class LossSettings(DistillSettings):
    """What is minimised: the cross-entropy of every word, and rewards at the end if asked.

    Teachers have the same words and read the same features; the divergence from them is per word
    too, and left out where captions are rewarded.
    """

    label_smoothing: Fraction = 0.0
    self_critical_epochs: NonNegativeInt = 0
    """In so many epochs at the end the CIDEr-D of captions drawn by chance is raised (Rennie et al.
    2017, arXiv 1612.00563)."""
    draws: int = Field(default=5, ge=2)
    """Captions drawn of an image; each is compared with the mean of the others (Luo 2020, arXiv
    2003.09971)."""
    self_critical_feature_dropout: Fraction = 0.0
    """On the image's features while captions are drawn and rewarded, where nothing else is dropped;
    all draws of an image see the same of it."""


class CaptioningRecipe(Recipe):
    """A recipe of the captioning task."""

    task: Literal["captioning"]
    encoder: EncoderSettings = EncoderSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()

    @model_validator(mode="after")
    def _higher_is_better(self) -> Self:
        prune = self.plan.prune if self.plan else None
        if prune is not None and prune.is_judged and prune.mode != "max":
            raise ValueError(
                "plan.prune.mode must be 'max' with a target or tolerance: the metric is CIDEr-D"
            )
        return self
