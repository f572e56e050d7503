import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.decoding import NGramModel
from growprune.decoding.ngram import END, START
from growprune.errors import DataError

WORDS = ["GO", "STOP", "ONE", "TWO"]
sentences = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join), min_size=1, max_size=6
)


def test_probabilities_by_hand():
    model = NGramModel.estimate(["A B", "A"], order=2)
    # Counts of single words: A 2, B 1, end 2; five in all, three different. Below lies the uniform
    # distribution over A, B, the end and the unknown: 1/4.
    a, b, end, unknown = ((c + 3 / 4) / 8 for c in (2, 1, 2, 0))
    assert math.exp(model.log_prob("A", ())) == pytest.approx(a)
    assert math.exp(model.log_prob("X", ())) == pytest.approx(unknown)
    # After A came B once and the end once; at the start A twice.
    assert math.exp(model.log_prob("B", ("A",))) == pytest.approx((1 + 2 * b) / 4)
    assert math.exp(model.log_prob(END, (START, "A"))) == pytest.approx((1 + 2 * end) / 4)
    assert math.exp(model.log_prob("A", (START,))) == pytest.approx((2 + 1 * a) / 3)
    assert math.exp(model.log_prob("X", ("A",))) == pytest.approx(2 * unknown / 4)
    # Histories never seen tell nothing.
    assert math.exp(model.log_prob("A", ("X",))) == pytest.approx(a)


def test_longest_history_counts_and_older_words_do_not():
    model = NGramModel.estimate(["A B C", "X B D", "X B D"], order=3)
    assert model.log_prob("C", ("A", "B")) > model.log_prob("D", ("A", "B"))
    assert model.log_prob("D", ("X", "B")) > model.log_prob("C", ("X", "B"))
    assert model.log_prob("C", ("X", "A", "B")) == model.log_prob("C", ("A", "B"))
    single = NGramModel.estimate(["A B C", "X B D", "X B D"], order=1)
    assert single.log_prob("C", ("A", "B")) == single.log_prob("C", ())


@settings(max_examples=60, deadline=None)
@given(sentences, st.integers(1, 4), st.lists(st.sampled_from([*WORDS, "HELP"]), max_size=4))
def test_probabilities_of_every_history_sum_to_one(texts, order, past):
    model = NGramModel.estimate(texts, order)
    for history in ((START, *past), tuple(past)):
        outcomes = [*model.vocabulary, END, "a word never seen"]
        total = math.fsum(math.exp(model.log_prob(word, history)) for word in outcomes)
        assert total == pytest.approx(1.0, abs=1e-12)


def test_unknown_words_are_possible_and_less_likely():
    model = NGramModel.estimate(["GO ONE", "STOP TWO"])
    assert -math.inf < model.sentence_log_prob("GO HELP") < model.sentence_log_prob("GO ONE")


def test_sentence_is_the_sum_of_its_words_and_perplexity_their_mean():
    model = NGramModel.estimate(["GO ONE", "STOP"], order=2)
    total = model.log_prob("GO", (START,)) + model.log_prob("TWO", ("GO",))
    total += model.log_prob(END, ("TWO",))
    assert model.sentence_log_prob("GO TWO") == pytest.approx(total)
    both = total + model.log_prob("STOP", (START,)) + model.log_prob(END, ("STOP",))
    assert model.perplexity(["GO TWO", "STOP"]) == pytest.approx(math.exp(-both / 5))


@settings(max_examples=20, deadline=None)
@given(texts=sentences, order=st.integers(1, 3))
def test_saved_model_says_the_same(tmp_path_factory, texts, order):
    path = tmp_path_factory.mktemp("lm") / "lm.json"
    model = NGramModel.estimate(texts, order)
    model.save(path)
    again = NGramModel.load(path)
    assert again.vocabulary == model.vocabulary
    for text in [*texts, "GO HELP TWO"]:
        assert again.sentence_log_prob(text) == model.sentence_log_prob(text)


def stored(**changes):
    content = {
        "format": 1,
        "order": 2,
        "counts": {"": {"A": 1, END: 1}, START: {"A": 1}, "A": {END: 1}},
    }
    return json.dumps({**content, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "no model of format 1"),
        (stored(format=2), "no model of format 1"),
        (stored(order=0), "order is 0"),
        (stored(order=True), "order is True"),
        (stored(counts={}), "counts of single words are missing"),
        (stored(counts={"": {"A": 1}, "A B": {"C": 1}}), "'A B' is too long for order 2"),
        (stored(counts={"": {"A": 1}, "A": {}}), "'A' has no words after it"),
        (stored(counts={"": {"A": 1}, "A": 5}), "'A' has no words after it"),
        (stored(counts={"": {"A": 1.5}}), "count 1.5 of 'A' after '' is not positive"),
        (stored(counts={"": {"A": -1}}), "count -1 of 'A'"),
        (stored(counts={"": {"A B": 1}}), "'A B' after '' is not a word"),
        (stored(counts={"": {START: 1}}), "'<s>' after '' is not a word"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    path = tmp_path / "lm.json"
    path.write_text(stored())
    NGramModel.load(path)
    path.write_text(text)
    with pytest.raises(DataError, match=rf"lm\.json: not a language model \(.*{message}"):
        NGramModel.load(path)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        NGramModel.load(tmp_path / "none.json")
    (tmp_path / "lm.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not a language model"):
        NGramModel.load(tmp_path / "lm.json")


def test_wrong_calls_say_what_is_wrong():
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        NGramModel.estimate(["A"], order=0)
    with pytest.raises(ValueError, match="no sentences"):
        NGramModel.estimate([])
    with pytest.raises(ValueError, match="among its words"):
        NGramModel.estimate(["GO </s>"])


def test_json_keeps_every_probability():
    model = NGramModel.estimate(["GO ONE TWO", "STOP ONE", "GO"], order=3)
    again = NGramModel.from_json(json.loads(json.dumps(model.to_json())))
    for history in ((), (START,), (START, "GO"), ("GO", "ONE"), ("X",)):
        for word in (*WORDS, END, "HELP"):
            assert again.log_prob(word, history) == model.log_prob(word, history)


def test_shortened_is_the_model_of_the_lower_order():
    texts = ["GO ONE TWO", "STOP ONE", "GO"]
    shortened = NGramModel.estimate(texts, order=3).shortened(2)
    assert shortened.to_json() == NGramModel.estimate(texts, order=2).to_json()
    with pytest.raises(ValueError, match="from 1 to 2, got 3"):
        shortened.shortened(3)
