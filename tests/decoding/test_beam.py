import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.decoding import NGramModel, beam_search, greedy


def collapse(path):
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def all_texts(log_probs):
    """Log-probability of every text, by adding up every single path."""
    texts = {}
    frames, symbols = log_probs.shape
    for path in itertools.product(range(symbols), repeat=frames):
        score = sum(log_probs[frame, symbol] for frame, symbol in enumerate(path))
        key = collapse(path)
        texts[key] = np.logaddexp(texts.get(key, -np.inf), score)
    return texts


def random_log_probs(seed, frames, symbols):
    logits = 2 * np.random.default_rng(seed).standard_normal((frames, symbols))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


EXACT = {"width": 10_000, "symbol_threshold": -math.inf}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3))
def test_wide_beam_finds_the_text_whose_paths_sum_highest(seed, frames, letters):
    log_probs = random_log_probs(seed, frames, letters + 1)
    texts = all_texts(log_probs)
    best = max(texts, key=texts.get)
    found = beam_search(log_probs, "ABC"[:letters], **EXACT)
    assert found.text == "".join("ABC"[symbol - 1] for symbol in best)
    assert found.score == pytest.approx(texts[best], rel=1e-10, abs=1e-12)


MODEL = NGramModel.estimate(["A B", "A B", "B A B", "AB"], order=2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0, 2), st.floats(-2, 2))
def test_wide_beam_with_language_model_finds_the_best_total(seed, frames, weight, bonus):
    letters = "AB "
    log_probs = random_log_probs(seed, frames, 4)

    def total(text):
        words = "".join(letters[symbol - 1] for symbol in text).split()
        language = MODEL.sentence_log_prob(" ".join(words))
        return texts[text] + weight * language + bonus * len(words)

    texts = all_texts(log_probs)
    best = max(texts, key=total)
    found = beam_search(
        log_probs, letters, language_model=MODEL, lm_weight=weight, word_bonus=bonus, **EXACT
    )
    assert found.score == pytest.approx(total(best), rel=1e-10, abs=1e-12)
    assert found.text == " ".join("".join(letters[s - 1] for s in best).split())


def test_sum_of_paths_beats_the_best_path():
    # Two frames, blank 0.6 and A 0.4 each: the best path is all blank (0.36), yet A sums to 0.64.
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert greedy(log_probs, "A").text == ""
    found = beam_search(log_probs, "A")
    assert found.text == "A"
    assert found.score == pytest.approx(math.log(0.64))


def test_language_model_turns_the_balance():
    model = NGramModel.estimate(["GO B"] * 9 + ["GO C"], order=2)
    # B and C sound almost alike, C a little better.
    letters = " BCGO"
    log_probs = np.full((4, 6), math.log(0.02))
    for frame, symbol in enumerate([4, 5, 1]):
        log_probs[frame, symbol] = math.log(0.9)
    log_probs[3, 2:4] = np.log([0.42, 0.5])
    assert beam_search(log_probs, letters).text == "GO C"
    assert beam_search(log_probs, letters, language_model=model, lm_weight=1.0).text == "GO B"


def test_word_times_are_those_of_the_most_likely_path():
    letters = "AB "
    log_probs = np.full((7, 4), math.log(0.01))
    for frame, symbol in enumerate([0, 1, 1, 3, 0, 2, 0]):
        log_probs[frame, symbol] = math.log(0.97)
    words = beam_search(log_probs, letters, seconds_per_frame=0.5).words
    assert [(word.text, word.start, word.end) for word in words] == [
        ("A", 0.5, 1.5),
        ("B", 2.5, 3.0),
    ]


@pytest.mark.parametrize("width", [1, 2, 8])
def test_narrow_beam_never_claims_more_than_the_exact_score(width):
    log_probs = random_log_probs(3, 6, 4)
    texts = all_texts(log_probs)
    found = beam_search(log_probs, "ABC", width=width)
    exact = texts[tuple("ABC".index(letter) + 1 for letter in found.text)]
    assert found.score <= exact + 1e-12


def test_prefix_dropped_and_reached_again_carries_nothing_over():
    # With a beam this narrow prefixes come and go; a stale probability would exceed the exact one.
    for seed in range(40):
        log_probs = random_log_probs(seed, 6, 3)
        texts = all_texts(log_probs)
        found = beam_search(log_probs, "AB", width=2)
        assert found.score <= texts[tuple("AB".index(x) + 1 for x in found.text)] + 1e-12


def test_no_frames_give_the_empty_text():
    found = beam_search(np.zeros((0, 3)), "AB")
    assert (found.text, found.score, found.words) == ("", 0.0, ())


def test_wrong_calls_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"\(frames, 4\).*got \(5, 3\)"):
        beam_search(np.zeros((5, 3)), "ABC")
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        beam_search(np.zeros((5, 4)), "ABC", width=0)
    with pytest.raises(ValueError, match="NaN"):
        beam_search(np.full((5, 4), np.nan), "ABC")
