"""An n-gram language model of words, for corpora small enough to count in memory."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from growprune.errors import DataError
from growprune.files import write_text

START = "<s>"
END = "</s>"
_FORMAT = 1


class NGramModel:
    """Word probabilities given the words before, smoothed after Witten and Bell (1991).

    With `c(h, w)` counting word `w` after history `h`, and `t(h)` the number of different words
    seen there,

        P(w | h) = (c(h, w) + t(h) P(w | h')) / (c(h) + t(h)),

    where `h'` lacks the oldest word of `h`. Below the empty history lies the uniform distribution
    over the vocabulary, the end of a sentence, and one place that all unknown words share. For
    every history the probabilities of these sum to one.
    """

    def __init__(self, order: int, counts: Mapping[tuple[str, ...], Mapping[str, int]]) -> None:
        """Build from counts: for each history of up to `order - 1` words, the words after it."""
        self.order = order
        self._counts = counts
        self._totals = {history: sum(words.values()) for history, words in counts.items()}

    @classmethod
    def estimate(cls, sentences: Iterable[str], order: int = 3) -> Self:
        """Count the words of sentences, their beginnings and ends.

        Args:
            sentences: Words separated by white space.
            order: Longest n-gram counted; 1 ignores histories.
        """
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        counts: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for sentence in sentences:
            words = sentence.split()
            if START in words or END in words:
                raise ValueError(f"sentence {sentence!r} has {START} or {END} among its words")
            tokens = (START, *words, END)
            for position in range(1, len(tokens)):
                for length in range(min(order - 1, position) + 1):
                    history = tokens[position - length : position]
                    counts[history][tokens[position]] += 1
        if not counts:
            raise ValueError("no sentences to estimate a language model from")
        return cls(order, counts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model that `save` wrote.

        Raises:
            DataError: the file is missing or not such a model.
        """
        path = Path(path)
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except ValueError as error:
            raise DataError(f"{path}: not a language model ({error}); estimate it again") from error

    def save(self, path: str | Path) -> None:
        """Write the counts as JSON."""
        write_text(path, json.dumps(self.to_json()))

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """A model from what `to_json` returned.

        Raises:
            ValueError: it is not such a model; says what does not fit.
        """
        return cls(*_parse(content))

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON types."""
        counts = {" ".join(history): words for history, words in sorted(self._counts.items())}
        return {"format": _FORMAT, "order": self.order, "counts": counts}

    def shortened(self, order: int) -> Self:
        """The same counts with shorter histories.

        Raises:
            ValueError: `order` is not from 1 to this model's order.
        """
        if not 1 <= order <= self.order:
            raise ValueError(f"order must be from 1 to {self.order}, got {order}")
        kept = {history: words for history, words in self._counts.items() if len(history) < order}
        return type(self)(order, kept)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word seen, without the marks of sentence start and end."""
        return frozenset(self._counts[()]) - {END}

    def log_prob(self, word: str, history: Sequence[str]) -> float:
        """Natural log-probability of a word, of `END`, or of any one unknown word.

        Args:
            word: The word.
            history: The words before it, oldest first, beginning with `START` where the
                sentence does; only the last `order - 1` count.
        """
        longest = tuple(history[max(0, len(history) - self.order + 1) :])
        probability = 1.0 / (len(self.vocabulary) + 2)
        for length in range(len(longest) + 1):
            words = self._counts.get(longest[len(longest) - length :])
            if words is None:
                break
            total = self._totals[longest[len(longest) - length :]]
            probability = (words.get(word, 0) + len(words) * probability) / (total + len(words))
        return math.log(probability)

    def sentence_log_prob(self, sentence: str) -> float:
        """Natural log-probability of a whole sentence with its end."""
        tokens = (START, *sentence.split(), END)
        return math.fsum(
            self.log_prob(tokens[position], tokens[:position]) for position in range(1, len(tokens))
        )

    def perplexity(self, sentences: Sequence[str]) -> float:
        """Perplexity per word, sentence ends counted as words."""
        words = sum(len(sentence.split()) + 1 for sentence in sentences)
        return math.exp(-math.fsum(map(self.sentence_log_prob, sentences)) / words)


def _parse(content: Any) -> tuple[int, dict[tuple[str, ...], dict[str, int]]]:
    """Order and counts of a file's JSON; ValueError says what does not fit."""
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"no model of format {_FORMAT}")
    order, counts = content.get("order"), content.get("counts")
    if type(order) is not int or order < 1:
        raise ValueError(f"order is {order!r}, not a whole number from 1")
    if not isinstance(counts, dict) or not counts.get(""):
        raise ValueError("counts of single words are missing")
    for text, words in counts.items():
        _check_counts(text, words, order)
    return order, {tuple(text.split()): words for text, words in counts.items()}


def _check_counts(text: str, words: Any, order: int) -> None:
    if len(text.split()) >= order:
        raise ValueError(f"history {text!r} is too long for order {order}")
    if not isinstance(words, dict) or not words:
        raise ValueError(f"history {text!r} has no words after it")
    for word, count in words.items():
        if not word or word == START or len(word.split()) != 1:
            raise ValueError(f"{word!r} after {text!r} is not a word")
        if type(count) is not int or count < 1:
            raise ValueError(f"count {count!r} of {word!r} after {text!r} is not positive")
