"""A finished run as a captioner: features of images in, sentences out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from growprune.data import Vocabulary
from growprune.decoding import Caption, Writer
from growprune.errors import CheckpointError
from growprune.tasks.captioning.model import CaptionModel, State
from growprune.tasks.captioning.settings import CaptioningRecipe
from growprune.training import load_weights, validate


class Captioner:
    """A trained model with everything between an image's features and its caption.

    Args:
        model: the network.
        recipe: it was trained by.
        vocabulary: its words.
        encoder: what computes its features: `name`, `pool` and `width`.

    Attributes:
        model, recipe, vocabulary, encoder: as given.
        masks: connections that are active, by parameter name; empty if all are.
    """

    engine = "torch eager, masked dense arithmetic"

    def __init__(
        self,
        model: CaptionModel,
        recipe: CaptioningRecipe,
        vocabulary: Vocabulary,
        encoder: Mapping[str, Any],
    ) -> None:
        self.model = model.eval()
        self.recipe = recipe
        self.vocabulary = vocabulary
        self.encoder = dict(encoder)
        self.masks: dict[str, torch.Tensor] = {}

    @classmethod
    def from_run(cls, folder: str | Path) -> "Captioner":
        """Load what `growprune train` left in `folder`.

        Raises:
            CheckpointError: there is no finished model, it is damaged, or it is no captioner.
        """
        folder = Path(folder)
        weights = load_weights(folder)
        recipe = validate(CaptioningRecipe, weights.recipe, f"of {folder}")
        try:
            vocabulary = Vocabulary(weights.extras["words"])
            encoder = weights.extras["encoder"]
            model = CaptionModel(recipe.model, encoder["width"], len(vocabulary))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder}: its words or encoder cannot be used ({error}); repeat the run"
            ) from None
        weights.load_into(model, folder)
        captioner = cls(model, recipe, vocabulary, encoder)
        captioner.masks = weights.masks
        return captioner

    @property
    def width(self) -> int:
        """Features of an image."""
        return int(self.encoder["width"])

    def caption(
        self,
        features: np.ndarray,
        *,
        beam: int = 3,
        length_penalty: float = 0.0,
        temperature: float | None = None,
        seed: int | tuple[int, ...] = 0,
    ) -> list[Caption]:
        """Captions of images, the likeliest that a beam search finds or drawn by chance.

        Args:
            features: `(images, width)`.
            beam: hypotheses kept for each image; 1 is greedy.
            length_penalty: 0 compares captions by their probability, more favours longer ones.
            temperature: draw words at this temperature instead of searching.
            seed: of the draws.
        """
        writer = Writer(beam, self.recipe.data.longest, length_penalty, temperature, seed)
        return writer.captions(self, features, self.vocabulary.decode)

    # What `Writer` needs

    def begin(self, features: np.ndarray) -> tuple[np.ndarray, State]:
        """Read images `(images, width)`; see `Language`."""
        with torch.inference_mode():
            scores, state = self.model.begin(self._tensor(features))
        return scores.cpu().numpy(), state

    def step(self, words: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Read a word of each `(rows,)`; see `Language`."""
        with torch.inference_mode():
            scores, state = self.model.step(self._tensor(words), state)
        return scores.cpu().numpy(), state

    def select(self, state: State, rows: np.ndarray) -> State:
        """The state of these rows; see `Language`."""
        chosen = self._tensor(rows)
        return tuple(part.index_select(1, chosen) for part in state)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.model.image.weight.device)
