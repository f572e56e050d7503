"""The most likely symbol of every frame."""

import numpy as np

from growprune.decoding.hypothesis import Hypothesis, checked, from_path


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
