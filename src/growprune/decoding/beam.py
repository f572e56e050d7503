"""Prefix beam search: sum over all paths of a text, not only the best (Hannun et al. 2014)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, inf, log1p

import numpy as np

from growprune.decoding.align import align
from growprune.decoding.hypothesis import BLANK, SPACE, Hypothesis, checked, from_path
from growprune.decoding.ngram import END, START, NGramModel


def beam_search(
    log_probs: np.ndarray,
    letters: str,
    *,
    width: int = 32,
    language_model: NGramModel | None = None,
    lm_weight: float = 0.5,
    word_bonus: float = 0.0,
    symbol_threshold: float = -10.0,
    seconds_per_frame: float = 1.0,
) -> Hypothesis:
    """Decode the text that acoustic and language model together find best.

    Its score is `log P(text | audio) + lm_weight log P(text) + word_bonus words`. The first term
    sums over all paths of the text, exactly so if `width` keeps every prefix and
    `symbol_threshold` every symbol. A word counts for the language model once it has ended.

    Args:
        log_probs: Natural logarithms `(frames, 1 + letters)`, the blank first.
        letters: The letters of symbols 1, 2, ...; a space ends a word.
        width: Prefixes kept after each frame.
        language_model: Rates words; without it `lm_weight` has no effect.
        lm_weight: Weight of the language model's log-probability.
        word_bonus: Added per word, against the language model's liking for few words.
        symbol_threshold: Symbols this much less likely than a frame's best are passed over.
        seconds_per_frame: Length of an output frame, for word times in seconds.

    Returns:
        The best text with its score; word times are those of its most likely path.
    """
    log_probs = checked(log_probs, letters)
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    rater = _Rater(letters, language_model, lm_weight, word_bonus)
    beam = [_Prefix(symbol=BLANK, parent=None, history=(START,), blank=0.0)]
    for frame in log_probs:
        beam = _advance(beam, _candidates(frame, symbol_threshold), rater, width)
    best = max(beam, key=rater.final)
    path = align(log_probs, best.symbols())
    return from_path(path, letters, rater.final(best), seconds_per_frame)


@dataclass(slots=True, eq=False)
class _Prefix:
    """A text so far, as a leaf of the tree of all prefixes.

    `blank` and `letter` are the log-probabilities of all its paths so far that end in a blank, or
    in its last letter; `next_blank` and `next_letter` gather those of the frame at hand. `bonus`
    rates its ended words, `word` is the one not yet ended.
    """

    symbol: int
    parent: "_Prefix | None"
    history: tuple[str, ...]
    word: str = ""
    bonus: float = 0.0
    blank: float = -inf
    letter: float = -inf
    next_blank: float = -inf
    next_letter: float = -inf
    children: dict[int, "_Prefix"] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return _add(self.blank, self.letter)

    def symbols(self) -> list[int]:
        reverse: list[int] = []
        prefix: _Prefix | None = self
        while prefix is not None and prefix.parent is not None:
            reverse.append(prefix.symbol)
            prefix = prefix.parent
        return reverse[::-1]


class _Rater:
    """Grows prefixes and gives their ended words what the language model says."""

    def __init__(
        self, letters: str, model: NGramModel | None, lm_weight: float, word_bonus: float
    ) -> None:
        self._letters, self._model = letters, model
        self._lm_weight, self._word_bonus = lm_weight, word_bonus

    def child(self, prefix: _Prefix, symbol: int) -> _Prefix:
        """The prefix with one more symbol, made at its first use."""
        if symbol not in prefix.children:
            prefix.children[symbol] = self._grown(prefix, symbol)
        return prefix.children[symbol]

    def final(self, prefix: _Prefix) -> float:
        """Score as a whole text: the last word and the sentence have ended."""
        bonus, history = self._ended(prefix)
        return prefix.total + bonus + self._weighted(END, history)

    def _grown(self, prefix: _Prefix, symbol: int) -> _Prefix:
        letter = self._letters[symbol - 1]
        if letter != SPACE:
            word = prefix.word + letter
            return _Prefix(symbol, prefix, prefix.history, word, prefix.bonus)
        bonus, history = self._ended(prefix)
        return _Prefix(symbol, prefix, history, "", bonus)

    def _ended(self, prefix: _Prefix) -> tuple[float, tuple[str, ...]]:
        """Bonus and history once the word at hand, if any, has ended."""
        if not prefix.word:
            return prefix.bonus, prefix.history
        bonus = prefix.bonus + self._word_bonus + self._weighted(prefix.word, prefix.history)
        return bonus, (*prefix.history, prefix.word)

    def _weighted(self, word: str, history: tuple[str, ...]) -> float:
        if self._model is None:
            return 0.0
        return self._lm_weight * self._model.log_prob(word, history)


def _candidates(frame: np.ndarray, threshold: float) -> list[tuple[int, float]]:
    """Symbols worth following, each with its log-probability."""
    symbols = np.flatnonzero(frame >= frame.max() + threshold)
    return list(zip(symbols.tolist(), frame[symbols].tolist(), strict=True))


def _advance(
    beam: Sequence[_Prefix], candidates: Sequence[tuple[int, float]], rater: _Rater, width: int
) -> list[_Prefix]:
    """Extend every prefix by one frame and keep the best `width`."""
    reached: dict[int, _Prefix] = {}
    for prefix in beam:
        total = prefix.total
        for symbol, log_prob in candidates:
            if symbol == BLANK:
                prefix.next_blank = _add(prefix.next_blank, total + log_prob)
                reached[id(prefix)] = prefix
                continue
            # A letter equal to the last one is a new letter only after a blank.
            repeats = symbol == prefix.symbol
            if repeats:
                prefix.next_letter = _add(prefix.next_letter, prefix.letter + log_prob)
                reached[id(prefix)] = prefix
            before = prefix.blank if repeats else total
            if before == -inf:
                continue
            child = rater.child(prefix, symbol)
            child.next_letter = _add(child.next_letter, before + log_prob)
            reached[id(child)] = child
    for prefix in reached.values():
        prefix.blank, prefix.letter = prefix.next_blank, prefix.next_letter
        prefix.next_blank = prefix.next_letter = -inf
    if len(reached) <= width:
        return list(reached.values())
    return sorted(reached.values(), key=lambda prefix: -(prefix.total + prefix.bonus))[:width]


def _add(first: float, second: float) -> float:
    """`log(exp(first) + exp(second))`."""
    if first < second:
        first, second = second, first
    return first if second == -inf else first + log1p(exp(second - first))
