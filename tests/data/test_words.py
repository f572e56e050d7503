import json
from pathlib import Path

import pytest

from growprune.data import Utterance, WordSpan, read_words, write_words
from growprune.errors import DataError

UTTERANCES = (Utterance("b", Path("b.wav"), "yes no"), Utterance("a", Path("a.wav"), "STOP"))
WORDS = {
    "a": (WordSpan("STOP", 0.0, 0.75),),
    "c": (WordSpan("GO", 0.0, 0.1),),
    "b": (WordSpan("YES", 0.0, 0.5), WordSpan("NO", 0.5, 1.25)),
}


def test_words_come_back_in_the_order_of_the_utterances(tmp_path):
    write_words(tmp_path / "words.json", WORDS)
    assert read_words(tmp_path / "words.json", UTTERANCES) == (WORDS["b"], WORDS["a"])
    content = json.loads((tmp_path / "words.json").read_text())
    assert content["utterances"]["b"] == [["YES", 0.0, 0.5], ["NO", 0.5, 1.25]]


def test_words_must_be_those_of_the_corpus(tmp_path):
    write_words(tmp_path / "words.json", WORDS)
    other = Utterance("b", Path("b.wav"), "YES YES")
    with pytest.raises(DataError, match="has 'YES NO' for utterance b, which says 'YES YES'; ali"):
        read_words(tmp_path / "words.json", (other,))
    with pytest.raises(DataError, match="has '' for utterance d, which says 'NEW'; align this"):
        read_words(tmp_path / "words.json", (Utterance("d", Path("d.wav"), "NEW"),))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("nonsense", "Expecting value"),
        ("[]", "list indices"),
        ('{"format": "other"}', "its format is 'other'"),
        ('{"format": "growprune words, format 1"}', "utterances"),
        ("[]", "cannot be used as a file of words"),
        *(
            (json.dumps({"format": "growprune words, format 1", "utterances": {"a": rows}}), reason)
            for rows, reason in (
                ([["A", 0.5, 0.5]], "is not a word with its start and end"),
                ([["A", -0.5, 0.5]], "is not a word with its start and end"),
                ([["A", 0.0, float("inf")]], "is not a word with its start and end"),
                ([[1, 0.0, 0.5]], "is not a word with its start and end"),
                ([["A", 0.5]], "not enough values"),
                ([["A", "0", "1"]], "not supported"),
                (7, "not iterable"),
            )
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_error(tmp_path, content, reason):
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(DataError, match=f"words.json: .*{reason}.*growprune data align"):
        read_words(path, UTTERANCES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: cannot be used.*No such file.*data align"):
        read_words(tmp_path / "none.json", UTTERANCES)
