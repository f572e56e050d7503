"""How good a model is, and what it costs; runs without torch."""

from growprune.metrics.captions import (
    CaptionScores,
    CiderD,
    bleu,
    cider_d,
    rouge_l,
    score_captions,
    tokenize,
)
from growprune.metrics.cost import Operation, totals
from growprune.metrics.error_rates import (
    ErrorCounts,
    character_error_rate,
    character_errors,
    word_error_rate,
    word_errors,
)
from growprune.metrics.evaluation import Evaluation, Transcript
from growprune.metrics.latency import Seconds, by_turns
from growprune.metrics.machine import cpu_name

__all__ = [
    "CaptionScores",
    "CiderD",
    "ErrorCounts",
    "Evaluation",
    "Operation",
    "Seconds",
    "Transcript",
    "bleu",
    "by_turns",
    "character_error_rate",
    "character_errors",
    "cider_d",
    "cpu_name",
    "rouge_l",
    "score_captions",
    "tokenize",
    "totals",
    "word_error_rate",
    "word_errors",
]
