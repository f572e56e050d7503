"""Where in the audio each symbol of a known text was said."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from growprune.decoding.hypothesis import BLANK, Word, checked, from_path


def align(log_probs: np.ndarray, symbols: Sequence[int]) -> list[int]:
    """Find the most likely path of a symbol sequence (Viterbi over CTC's lattice).

    Args:
        log_probs: Natural logarithms `(frames, symbols)`, the blank first.
        symbols: The text's symbols, without blanks.

    Returns:
        One symbol a frame, blanks included, which merges to `symbols`.

    Raises:
        ValueError: there are too few frames for the symbols.
    """
    frames = len(log_probs)
    needed = len(symbols) + sum(first == second for first, second in pairwise(symbols))
    if frames < needed:
        raise ValueError(f"{len(symbols)} symbols need {needed} frames, there are {frames}")
    if not frames:
        return []
    # Every state of the lattice: a blank before, between and after the symbols.
    states = np.full(2 * len(symbols) + 1, BLANK)
    states[1::2] = symbols
    # A symbol may follow the one before it without a blank between, unless they are equal.
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]

    scores = np.full(len(states), -np.inf)
    scores[:2] = log_probs[0, states[:2]]
    steps = np.zeros((frames, len(states)), np.int8)
    for frame in range(1, frames):
        options = np.full((3, len(states)), -np.inf)
        options[0] = scores
        options[1, 1:] = scores[:-1]
        options[2, 2:] = np.where(skips[2:], scores[:-2], -np.inf)
        steps[frame] = options.argmax(axis=0)
        scores = options.max(axis=0) + log_probs[frame, states]

    state = len(states) - 1
    if len(states) > 1 and scores[state - 1] > scores[state]:
        state -= 1
    path = [state]
    for frame in range(frames - 1, 0, -1):
        state -= int(steps[frame, state])
        path.append(state)
    return states[path[::-1]].tolist()


def align_words(
    log_probs: np.ndarray, text: str, letters: str, seconds_per_frame: float = 1.0
) -> tuple[Word, ...]:
    """Cut audio into the words of a known text.

    A cut lies halfway between the last letter of a word and the first of the next, as `align` finds
    them. The first word begins with the audio and the last one ends with it.

    Args:
        log_probs: Natural logarithms `(frames, 1 + letters)`, the blank first.
        text: Words with single spaces between them, all of `letters`.
        letters: The letters of symbols 1, 2, ...
        seconds_per_frame: Length of an output frame, for times in seconds.

    Raises:
        ValueError: there are too few frames for the text.
    """
    path = align(checked(log_probs, letters), [letters.index(letter) + 1 for letter in text])
    words = from_path(path, letters, 0.0, 1.0).words
    cuts = [0.0, *((one.end + two.start) / 2 for one, two in pairwise(words)), len(log_probs)]
    times = [cut * seconds_per_frame for cut in cuts]
    return tuple(Word(w.text, *span) for w, span in zip(words, pairwise(times), strict=True))
