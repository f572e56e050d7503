"""Where the words of utterances lie in their recordings, and the JSON file that says so.

The file holds, under an utterance's id, a list `[word, start, end]` for every word of it, times in
seconds.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from growprune.data.alphabet import normalise_text
from growprune.data.manifest import Utterance
from growprune.errors import DataError
from growprune.files import write_text

_FORMAT = "growprune words, format 1"


@dataclass(frozen=True)
class WordSpan:
    """A word and its part of a recording, from `start` to `end` in seconds."""

    text: str
    start: float
    end: float


def write_words(path: str | Path, words: Mapping[str, Sequence[WordSpan]]) -> None:
    """Write the words of utterances, by id."""
    rows = {
        name: [[word.text, round(word.start, 4), round(word.end, 4)] for word in spans]
        for name, spans in words.items()
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    write_text(path, f'{{"format": "{_FORMAT}", "utterances": {{\n{lines}\n}}}}\n')


def read_words(
    path: str | Path, utterances: Sequence[Utterance]
) -> tuple[tuple[WordSpan, ...], ...]:
    """The words of utterances, in the utterances' order; the file may hold others too.

    Raises:
        DataError: the file is not such a file, or lacks an utterance or has other words for it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        words = {name: tuple(map(_span, row)) for name, row in content["utterances"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be used as a file of words ({error}); make one with growprune data "
            "align"
        ) from None
    for utterance in utterances:
        found = words.get(utterance.id, ())
        written = " ".join(word.text for word in found)
        if written != normalise_text(utterance.text):
            raise DataError(
                f"{path}: has {written!r} for utterance {utterance.id}, which says "
                f"{utterance.text!r}; align this corpus with growprune data align"
            )
    return tuple(words[utterance.id] for utterance in utterances)


def _span(entry: Any) -> WordSpan:
    text, start, end = entry
    if not isinstance(text, str) or not 0 <= start < end < math.inf:
        raise ValueError(f"{entry!r} is not a word with its start and end in seconds")
    return WordSpan(text, start, end)
