import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from growprune.decoding import Word, align, align_words


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


def log_probs_of(path, symbols):
    """A path that is far likelier than any other."""
    return np.where(np.eye(symbols)[path], -0.1, -9.0)


def test_words_are_cut_halfway_between_letters():
    # Letters " AB": A is 2, B is 3. A is heard in frames 1 and 2, BA in 5 and 6, B in 10.
    path = [0, 2, 2, 0, 1, 3, 2, 0, 0, 1, 3, 0, 0]
    words = align_words(log_probs_of(path, 4), "A BA B", " AB", 0.5)
    assert words == (Word("A", 0.0, 2.0), Word("BA", 2.0, 4.25), Word("B", 4.25, 6.5))


def test_one_word_is_the_whole_audio_():
    assert align_words(log_probs_of([0, 2, 0], 3), "A", " A", 2.0) == (Word("A", 0.0, 6.0),)


def test_words_need_frames_and_an_output_for_every_letter():
    with pytest.raises(ValueError, match="3 symbols need 3 frames, there are 2"):
        align_words(np.zeros((2, 3)), "A A", " A")
    with pytest.raises(ValueError, match="the blank and 2 letters"):
        align_words(np.zeros((5, 4)), "A A", " A")
