"""How close captions come to what people wrote: BLEU, ROUGE-L and CIDEr-D, without Java.

The scores are those of the COCO caption evaluation (Chen et al. 2015, `pycocoevalcap`), from the
same tokens the same numbers. Texts are split into tokens here; one that is split already, with
spaces between its tokens, stays as it is.
"""

from growprune.metrics.captions.bleu import bleu
from growprune.metrics.captions.cider import CiderD, cider_d
from growprune.metrics.captions.rouge import rouge_l
from growprune.metrics.captions.scores import CaptionScores, score_captions
from growprune.metrics.captions.tokens import tokenize

__all__ = [
    "CaptionScores",
    "CiderD",
    "bleu",
    "cider_d",
    "rouge_l",
    "score_captions",
    "tokenize",
]
