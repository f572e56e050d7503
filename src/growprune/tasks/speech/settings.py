"""The speech tables of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from growprune.data import FeatureSettings, Noise, SpecAugment
from growprune.settings import Settings
from growprune.tasks.distillation import DistillSettings
from growprune.training import Recipe

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class ConvolutionSettings(Settings):
    """One convolution of the front end.

    With one kernel size and stride it runs over time with the bands as channels; with two, over
    (bands, time) as an image. Time is padded so that a stride of 1 keeps its length; bands are not
    padded.
    """

    channels: PositiveInt
    kernel: tuple[PositiveInt, ...] = Field(min_length=1, max_length=2)
    stride: tuple[PositiveInt, ...] = Field(min_length=1, max_length=2)

    @model_validator(mode="after")
    def _same_axes(self) -> "ConvolutionSettings":
        if len(self.kernel) != len(self.stride):
            raise ValueError("kernel and stride must name the same axes: both 1 or both 2 numbers")
        return self


class FrontEndSettings(Settings):
    """The convolutions between features and recurrent layers."""

    convolutions: tuple[ConvolutionSettings, ...] = Field(min_length=1)
    norm: Literal["batch", "layer"] = "layer"
    activation: Literal["hardtanh", "leaky_relu"] = "leaky_relu"
    dropout: Fraction = 0.0


class RecurrentSettings(Settings):
    """The recurrent layers; no `gate_hidden_sizes` means ordinary LSTMs or GRUs."""

    cell: Literal["lstm", "gru"] = "lstm"
    layers: PositiveInt
    hidden_size: PositiveInt
    bidirectional: bool = True
    merge: Literal["concatenate", "sum"] = "concatenate"
    gate_hidden_sizes: tuple[PositiveInt, ...] = ()
    gate_dropout: Fraction = 0.0
    negative_slope: NonNegativeFloat = 0.01
    dropout: Fraction = 0.0
    """On every layer's output."""
    norm: Literal["batch", "layer", "none"] = "none"
    """Of every layer's output, before the dropout."""

    @model_validator(mode="after")
    def _only_lstms_have_deep_gates(self) -> "RecurrentSettings":
        if self.cell == "gru" and (self.gate_hidden_sizes or self.gate_dropout):
            raise ValueError(
                "a GRU's gates have no hidden layers; set gate_hidden_sizes = [] and "
                "gate_dropout = 0.0, or cell = 'lstm'"
            )
        return self


class ModelSettings(Settings):
    """A recogniser: front end, recurrent layers, linear output.

    A unidirectional model is causal throughout: its convolutions look back only.
    """

    front_end: FrontEndSettings
    recurrent: RecurrentSettings
    output_bias: bool = True

    @property
    def causal(self) -> bool:
        """Whether no output depends on later input."""
        return not self.recurrent.bidirectional


class WordMix(Settings):
    """New utterances of known words (aligned data augmentation, Lam et al. 2021, arXiv 2104.01393).

    A word of the training utterances, as it was said, takes the place of every word.
    """

    words: str
    """File that `growprune data align` wrote, relative to where the command is given."""
    probability: Probability = 0.3
    """How often an utterance is made anew."""


class DataSettings(Settings):
    """Letters, features and augmentation."""

    train_splits: tuple[str, ...] = Field(default=("train",), min_length=1)
    """Splits learnt from. A final run may add "dev" once everything is chosen; its dev figures
    then say nothing, and reports leave them out."""
    letters: str = Field(default=" ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_length=1)
    features: FeatureSettings = FeatureSettings()
    speeds: tuple[PositiveFloat, ...] = Field(default=(1.0,), min_length=1)
    """Speed factors drawn from in training."""
    warp: float = Field(default=0.0, ge=0, le=0.3)
    """Resonances of the voice are made up to this part higher or lower in training, the factor
    drawn evenly, by `growprune.data.warp_frequencies`."""
    mix_words: WordMix | None = None
    concatenate: Probability = 0.0
    """How often another utterance, of the same speaker where speakers are known and have more than
    one, is said after a training utterance, at its speed."""
    concatenate_seconds: PositiveFloat = 15.0
    """Utterances that together last longer are not joined."""
    noise: Noise | None = None
    spec_augment: SpecAugment | None = None
    sorted_first_epoch: bool = True

    @model_validator(mode="after")
    def _writes_what_is_joined(self) -> "DataSettings":
        for key in ("concatenate", "mix_words"):
            if getattr(self, key) and " " not in self.letters:
                raise ValueError(f"{key} joins transcripts by a space; add one to letters")
        return self


class LossSettings(DistillSettings):
    """What is minimised: the CTC loss per letter of the last layer, and more if asked.

    Teachers have this recipe's features and letters and as many output frames; the divergence from
    them is per letter too.
    """

    intermediate: NonNegativeFloat = 0.0
    """Factor of the CTC losses of the recurrent layers below, each read through the same output
    matrix (Lee and Watanabe 2021, arXiv 2102.03216). Costs nothing once trained."""


class SpeechRecipe(Recipe):
    """A recipe of the speech task."""

    task: Literal["speech"]
    data: DataSettings = DataSettings()
    model: ModelSettings
    loss: LossSettings = LossSettings()
