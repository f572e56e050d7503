"""The decoder: an image's vector, then word after word, into a distribution over the next word."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from growprune.metrics import Operation
from growprune.nn import HLSTM, Dropout
from growprune.tasks.captioning.settings import ModelSettings

State = tuple[torch.Tensor, ...]
"""Hidden and cell states, each `(layers, batch, hidden)`, and where the image is merged its vector
`(1, batch, hidden)`."""

_Carried = tuple[torch.Tensor, torch.Tensor]
"""Hidden and cell states alone."""


class CaptionModel(nn.Module):
    """A distribution over a caption's next word, given its image and the words before.

    As in NeuralTalk2 the image is what the recurrent layers read first; what they then give stands
    for the first word. Where it is injected as "init" they begin with it instead, and read zeros
    first. Where it is merged a second vector of it is added to all that they give. Word 0 ends a
    caption and is never read.

    Args:
        settings: sizes.
        width: features of an image.
        words: how many there are, the end included.
    """

    def __init__(self, settings: ModelSettings, width: int, words: int) -> None:
        super().__init__()
        self.settings = settings
        self.normalise = feature_norm(settings.normalise, width, settings.feature_deviation)
        self.feature_dropout = Dropout(settings.feature_dropout)
        recurrent = settings.recurrent
        self.image = nn.Linear(
            width,
            recurrent.hidden_size if settings.inject == "init" else settings.embedding_size,
        )
        self.embedding = nn.Embedding(words, settings.embedding_size)
        self.recurrent = HLSTM(
            settings.embedding_size,
            recurrent.hidden_size,
            recurrent.layers,
            batch_first=True,
            dropout=settings.dropout if recurrent.layers > 1 else 0.0,
            gate_hidden_sizes=recurrent.gate_hidden_sizes,
            gate_dropout=recurrent.gate_dropout,
            negative_slope=recurrent.negative_slope,
        )
        self.merge = nn.Linear(width, recurrent.hidden_size) if settings.merge else None
        self.dropout = Dropout(settings.dropout)
        self.output = nn.Linear(recurrent.hidden_size, words)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if settings.tied:
            self.output.weight = self.embedding.weight

    def forward(
        self, features: torch.Tensor, words: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Score every word of captions that are known, and their ends.

        Args:
            features: `(batch, width)` of the images.
            words: `(batch, time)` ids, padded with anything.
            lengths: `(batch,)` words of each caption, on the CPU.

        Returns:
            Logits `(steps, words)` in float32 without padding: caption after caption,
            `lengths + 1` steps of each. Their softmax are the probabilities.
        """
        first, state, merged = self._look(features)
        x = torch.cat([first.unsqueeze(1), self.embedding(words)], dim=1)
        y, _ = self.recurrent(self.dropout(x), state, lengths=lengths + 1)
        if merged is not None:
            y = y + merged.unsqueeze(1)
        steps = torch.arange(y.shape[1]) <= lengths.unsqueeze(1)
        return self._logits(y[steps.to(y.device)])

    def begin(self, features: torch.Tensor) -> tuple[torch.Tensor, State]:
        """Read images `(batch, width)`.

        Returns:
            Log-probabilities `(batch, words)` of their captions' first words, and the state.
        """
        first, state, merged = self._look(features)
        return self._advance(first, state, () if merged is None else (merged.unsqueeze(0),))

    def step(self, words: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Read one more word `(batch,)` of each caption; returns what `begin` does."""
        return self._advance(self.embedding(words), (state[0], state[1]), state[2:])

    def thinned(self, features: torch.Tensor, dropout: float) -> torch.Tensor:
        """Features `(batch, width)` with some dropped, which tell nothing once they are normalised.

        Those that are kept tell more by as much as `feature_dropout` would have them. Features
        with the norm "layer" are normalised first, and will be once more.
        """
        x = Dropout(dropout).train()(self.normalise(features))
        return self.normalise.restored(x) if isinstance(self.normalise, StandardNorm) else x

    def operations(self, masks: Mapping[str, torch.Tensor], words: int) -> Iterator[Operation]:
        """Every parameter with its cost, for a caption of so many words written greedily."""
        steps = words + 1
        uses = {"image.weight": 1, "merge.weight": 1}
        uses["embedding.weight"] = steps if self.settings.tied else 0
        for name, weight in self.named_parameters():
            active = int(masks[name].sum()) if name in masks else weight.numel()
            used = uses.get(name, steps if weight.ndim >= 2 else 0)
            yield Operation(name, weight.numel(), active, used, name.startswith("recurrent."))

    def _look(
        self, features: torch.Tensor
    ) -> tuple[torch.Tensor, _Carried | None, torch.Tensor | None]:
        """Of images `(batch, width)` what is read first, the state before that, and the merged."""
        x = self.feature_dropout(self.normalise(features))
        seen, merged = self.image(x), None if self.merge is None else self.merge(x)
        if self.settings.inject == "pre":
            return seen, None, merged
        begun = seen.tanh().repeat(self.recurrent.num_layers, 1, 1)
        return x.new_zeros(len(x), self.embedding.embedding_dim), (begun, begun), merged

    def _advance(
        self, x: torch.Tensor, state: _Carried | None, merged: State
    ) -> tuple[torch.Tensor, State]:
        y, state = self.recurrent(self.dropout(x).unsqueeze(1), state)
        y = sum((vector.squeeze(0) for vector in merged), y.squeeze(1))
        return self._logits(y).log_softmax(-1), (*state, *merged)

    def _logits(self, y: torch.Tensor) -> torch.Tensor:
        return self.output(self.dropout(y)).float()


class StandardNorm(nn.Module):
    """Features with the mean and deviation of those learnt from taken out.

    A feature that never varies becomes 0.

    Args:
        width: features of an image.
        deviation: each feature's, in what comes out.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, width: int, deviation: float = 1.0) -> None:
        super().__init__()
        self.deviation = deviation
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, features: torch.Tensor) -> None:
        """Take mean and deviation from `(images, width)`."""
        deviation = features.std(0, correction=0)
        varies = features.amax(0) > features.amin(0)  # a rounded deviation does not tell
        self.mean.copy_(features.mean(0))
        self.scale.copy_(torch.where(varies, self.deviation / deviation, 0.0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise `(batch, width)`."""
        return (features - self.mean) * self.scale

    def restored(self, features: torch.Tensor) -> torch.Tensor:
        """What `(batch, width)` were before they were normalised, if they vary."""
        return self.mean + torch.where(self.scale > 0, features / self.scale, 0.0)


def feature_norm(kind: str, width: int, deviation: float = 1.0) -> nn.Module:
    """The norm of features that a recipe names: `none`, `standard`, `unit` or `layer`.

    What `standard` and `unit` give has so many times their deviation.
    """
    if kind in ("standard", "unit"):
        return StandardNorm(width, deviation * (1.0 if kind == "standard" else width**-0.5))
    return nn.LayerNorm(width, elementwise_affine=False) if kind == "layer" else nn.Identity()
