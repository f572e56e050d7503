import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growprune.data import Vocabulary, words_of
from growprune.data.vocabulary import END, UNKNOWN

WORDS = {
    "A dog runs.": "a dog runs",
    "A dog's t-shirt, red!": "a dog 's t shirt red",
    "A dog\u2019s ball": "a dog 's ball",
    "a dog 's ball": "a dog 's ball",
    "the dogs' 's": "the dogs s",
    "'s": "s",
    "isn't 'so' o'clock": "isn t so o clock",
    "snake_case 2nd 10,000": "snake case 2nd 10 000",
    "Caf\u00e9 \u0130": "caf\u00e9 i",
    "it'sy dog's's": "it sy dog 's 's",
    " ... \n": "",
    "": "",
}


@pytest.mark.parametrize("text", WORDS)
def test_words_by_hand(text):
    assert words_of(text) == WORDS[text].split()


@given(st.text(st.sampled_from("aB' s.\u2019-9_\n")))
def test_words_are_lower_case_without_space_or_mark(text):
    words = words_of(text)
    assert all(word == "'s" or word.isalnum() for word in words)
    assert words == [word.lower() for word in words]
    assert words_of(" ".join(words)) == words


def test_words_are_kept_by_how_often_they_are_seen_then_by_alphabet():
    sentences = ["a b c", "a b d", "A, c", "d d"]
    assert Vocabulary.build(sentences, least=2).words == (END, UNKNOWN, "a", "d", "b", "c")
    assert Vocabulary.build(sentences, least=3).words == (END, UNKNOWN, "a", "d")
    assert len(Vocabulary.build(sentences, least=4)) == 2
    assert Vocabulary.build(reversed(sentences), 2) == Vocabulary.build(sentences, 2)


def test_numbers_by_hand():
    vocabulary = Vocabulary([END, UNKNOWN, "dog", "'s", "ball"])
    assert vocabulary.encode("Dog's red ball!") == [2, 3, 1, 4]
    assert vocabulary.encode("...") == []
    assert vocabulary.decode([2, 3, 4, 0, 4]) == "dog's ball"
    assert vocabulary.decode([2, 1]) == "dog <unknown>"
    assert vocabulary.decode([]) == vocabulary.decode([0, 2]) == ""
    # What a corpus may hold cannot be taken for the special words.
    assert vocabulary.encode("<end> <unknown>") == [1, 1]


@given(st.lists(st.sampled_from(["dog", "'s", "cat", "2"]), max_size=8))
def test_decoded_words_are_encoded_again(words):
    vocabulary = Vocabulary([END, UNKNOWN, "dog", "'s", "cat", "2"])
    numbers = [vocabulary.words.index(word) for word in ["dog", *words]]
    assert vocabulary.encode(vocabulary.decode(numbers)) == numbers


@pytest.mark.parametrize("words", [[], ["a", "b"], [UNKNOWN, END], [END]])
def test_the_special_words_come_first(words):
    with pytest.raises(ValueError, match="begins with <end> and <unknown>"):
        Vocabulary(words)


def test_a_word_twice_is_refused():
    with pytest.raises(ValueError, match=r"\['dog'\] stand in the vocabulary more than once"):
        Vocabulary([END, UNKNOWN, "dog", "cat", "dog"])


def test_karpathys_words_of_flickr8k(real_data):
    """But for 24 sentences with quotation marks or broken-up contractions."""
    content = json.loads((real_data / "flickr8k" / "dataset_flickr8k.json").read_text())
    sentences = [s for image in content["images"] for s in image["sentences"]]
    assert len(sentences) == 40_455
    different = [s for s in sentences if words_of(s["raw"]) != s["tokens"]]
    assert len(different) == 24
    for sentence in different:
        kept = [token for token in sentence["tokens"] if "'" not in token]
        assert [w for w in words_of(sentence["raw"]) if w in kept] == kept
