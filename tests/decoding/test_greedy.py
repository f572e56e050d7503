import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.decoding import GreedyStream, Word, greedy

LETTERS = " AB"


def path_log_probs(path, probability=0.7):
    log_probs = np.full((len(path), 4), math.log((1 - probability) / 3))
    log_probs[np.arange(len(path)), path] = math.log(probability)
    return log_probs


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([0, 2, 2, 0, 3, 3], "AB"),
        ([2, 0, 2], "AA"),
        ([2, 2, 2], "A"),
        ([0, 0, 0], ""),
        ([1, 2, 1, 0, 1, 3, 1], "A B"),
    ],
)
def test_repeats_merge_blanks_part_and_spaces_are_single(path, text):
    hypothesis = greedy(path_log_probs(path), LETTERS)
    assert hypothesis.text == text
    assert hypothesis.score == pytest.approx(len(path) * math.log(0.7))


def test_words_carry_their_times():
    #        blank A  A  blank B  space space blank B  blank
    path = [0, 2, 2, 0, 3, 1, 1, 0, 3, 0]
    hypothesis = greedy(path_log_probs(path), LETTERS, seconds_per_frame=0.04)
    assert [word.text for word in hypothesis.words] == ["AB", "B"]
    assert [word.start for word in hypothesis.words] == pytest.approx([0.04, 0.32])
    assert [word.end for word in hypothesis.words] == pytest.approx([0.20, 0.36])
    assert greedy(path_log_probs(path), LETTERS).words == (Word("AB", 1, 5), Word("B", 8, 9))


def test_no_frames_give_the_empty_text():
    hypothesis = greedy(np.zeros((0, 4), np.float32), LETTERS)
    assert (hypothesis.text, hypothesis.score, hypothesis.words) == ("", 0.0, ())


def test_wrong_calls_say_what_is_wrong():
    with pytest.raises(
        ValueError, match=r"\(frames, 4\): the blank and 3 letters; got \(2, 5, 4\)"
    ):
        greedy(np.zeros((2, 5, 4)), LETTERS)
    with pytest.raises(ValueError, match="NaN"):
        greedy(np.full((2, 4), np.nan), LETTERS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_a_stream_only_grows_and_ends_with_the_same_text(path, cuts):
    log_probs = path_log_probs(path)
    stream, text = GreedyStream(LETTERS), ""
    bounds = sorted({0, len(path), *(cut for cut in cuts if cut < len(path))})
    for start, end in pairwise(bounds):
        grown = stream.push(log_probs[start:end])
        assert grown.startswith(text)
        text = grown
    assert text == greedy(log_probs, LETTERS).text
