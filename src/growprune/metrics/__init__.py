"""How good a model is, and what it costs; runs without torch."""

from growprune.metrics.cost import Operation, totals
from growprune.metrics.error_rates import (
    ErrorCounts,
    character_error_rate,
    character_errors,
    word_error_rate,
    word_errors,
)

__all__ = [
    "ErrorCounts",
    "Operation",
    "character_error_rate",
    "character_errors",
    "totals",
    "word_error_rate",
    "word_errors",
]
