"""Errors a user can act on: each says what is wrong, the value seen, and what to do."""

import re

_LINE_BREAK = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class GrowPruneError(Exception):
    """Base of every error raised on purpose; the command line prints it as one line.

    A line break in a name that it quotes reads as its escape.
    """

    def __str__(self) -> str:
        return _LINE_BREAK.sub(lambda found: repr(found[0])[1:-1], super().__str__())


class DataError(GrowPruneError):
    """A file or corpus that cannot be used as it is."""


class RecipeError(GrowPruneError):
    """A recipe or plan with an unknown key or a value out of range."""


class CheckpointError(GrowPruneError):
    """A run folder, checkpoint or model file that is missing, damaged or does not fit."""


class TrainingError(GrowPruneError):
    """Training cannot go on, for example because the loss is not finite."""


class ModelFileError(GrowPruneError):
    """A packed model file that is missing, damaged, or describes a network that cannot be."""
