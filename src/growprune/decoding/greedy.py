"""The most likely symbol of every frame."""

import numpy as np

from growprune.decoding.hypothesis import BLANK, SPACE, Hypothesis, checked, from_path


def greedy(log_probs: np.ndarray, letters: str, seconds_per_frame: float = 1.0) -> Hypothesis:
    """Decode the single most likely path of a CTC model.

    Args:
        log_probs: Natural logarithms `(frames, 1 + letters)`, the blank first.
        letters: The letters of symbols 1, 2, ...; a space ends a word.
        seconds_per_frame: Length of an output frame, for word times in seconds.

    Returns:
        The path's text; its score is the log-probability of that one path.
    """
    log_probs = checked(log_probs, letters)
    path = log_probs.argmax(axis=1)
    score = float(log_probs.max(axis=1).sum(dtype=np.float64)) if len(log_probs) else 0.0
    return from_path(path.tolist(), letters, score, seconds_per_frame)


class GreedyStream:
    """The text of `greedy` while the frames are still arriving; it only ever grows."""

    def __init__(self, letters: str) -> None:
        self.text = ""
        self._letters = letters
        self._last = BLANK
        self._space = False

    def push(self, log_probs: np.ndarray) -> str:
        """Take the next frames `(frames, 1 + letters)`; return the text so far.

        A space appears together with the letter after it, so that none is left at the end.
        """
        for symbol in checked(log_probs, self._letters).argmax(axis=1).tolist():
            if symbol not in (BLANK, self._last):
                self._append(self._letters[symbol - 1])
            self._last = symbol
        return self.text

    def _append(self, letter: str) -> None:
        if letter == SPACE:
            self._space = bool(self.text)
            return
        self.text += SPACE + letter if self._space else letter
        self._space = False
