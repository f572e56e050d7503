"""All caption scores of a test set."""

from collections.abc import Sequence
from dataclasses import dataclass

from growprune.metrics.captions.bleu import bleu
from growprune.metrics.captions.cider import cider_d
from growprune.metrics.captions.pairs import split_references
from growprune.metrics.captions.rouge import rouge_l
from growprune.metrics.captions.tokens import tokenize


@dataclass(frozen=True)
class CaptionScores:
    """How close captions come to their references.

    Attributes:
        bleu: BLEU-1 to BLEU-4, in [0, 1].
        rouge_l: In [0, 1].
        cider_d: In [0, 10].
    """

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider_d: float

    def as_dict(self) -> dict[str, float]:
        """By name: `bleu_1` to `bleu_4`, `rouge_l`, `cider_d`."""
        bleus = {f"bleu_{order}": score for order, score in enumerate(self.bleu, start=1)}
        return {**bleus, "rouge_l": self.rouge_l, "cider_d": self.cider_d}


def score_captions(references: Sequence[Sequence[str]], candidates: Sequence[str]) -> CaptionScores:
    """BLEU, ROUGE-L and CIDEr-D of a candidate for each image.

    Args:
        references: Sentences of each image, one or more.
        candidates: A sentence for each image.
    """
    split = split_references(references, tokenize)
    expected = [[" ".join(tokens) for tokens in texts] for texts in split]
    written = [" ".join(tokenize(text)) for text in candidates]
    return CaptionScores(
        bleu=bleu(expected, written, str.split),
        rouge_l=rouge_l(expected, written, str.split),
        cider_d=cider_d(expected, written, str.split),
    )
