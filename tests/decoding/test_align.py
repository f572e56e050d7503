import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from growprune.decoding import align


def collapse(path):
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 6), st.lists(st.integers(1, 2), min_size=0, max_size=4)
)
def test_path_is_the_best_of_all_paths_of_the_text(seed, frames, symbols):
    log_probs = np.random.default_rng(seed).standard_normal((frames, 3))

    def score(path):
        return sum(log_probs[frame, symbol] for frame, symbol in enumerate(path))

    fitting = [
        path for path in itertools.product(range(3), repeat=frames) if collapse(path) == symbols
    ]
    assume(fitting)
    found = align(log_probs, symbols)
    assert collapse(found) == symbols
    assert score(found) == pytest.approx(max(map(score, fitting)), abs=1e-12)


@pytest.mark.parametrize(("symbols", "needed"), [([1, 2], 2), ([1, 1], 3), ([1, 1, 1, 2], 6)])
def test_too_few_frames_are_refused(symbols, needed):
    assert collapse(align(np.zeros((needed, 3)), symbols)) == symbols
    with pytest.raises(ValueError, match=f"{len(symbols)} symbols need {needed} frames, there are"):
        align(np.zeros((needed - 1, 3)), symbols)


def test_nothing_aligns_to_nothing():
    assert align(np.zeros((0, 3)), []) == []
    assert align(np.zeros((3, 3)), []) == [0, 0, 0]
