import pytest
from hypothesis import given
from hypothesis import strategies as st

from growprune.data import BLANK, ENGLISH, Alphabet, normalise_text
from growprune.errors import DataError

LETTERS = Alphabet(" ABC")


def test_letters_count_from_one_and_the_blank_is_zero():
    assert BLANK == 0
    assert len(LETTERS) == 5
    assert LETTERS.encode("CAB A") == [4, 2, 3, 1, 2]
    assert LETTERS.decode([4, 0, 2, 3, 1, 0, 2]) == "CAB A"


@given(st.text(alphabet=ENGLISH.letters))
def test_encoding_and_back_is_the_normalised_text(text):
    assert ENGLISH.decode(ENGLISH.encode(text)) == normalise_text(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("hello", "HELLO"),
        ("  two \t words\n", "TWO WORDS"),
        ("e\u0301te\u0301", "\u00c9T\u00c9"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_text_is_upper_case_composed_and_single_spaced(text, normal):
    assert normalise_text(text) == normal


def test_unknown_letters_are_named():
    with pytest.raises(DataError, match="'CAB 42!' has '!24', not in the alphabet ' ABC'; correct"):
        LETTERS.encode("CAB 42!")


@pytest.mark.parametrize(
    ("letters", "message"),
    [
        ("", "at least one"),
        ("ABA", r"\['A'\] stand .* more than once"),
        ("Ab", r"\['b'\] are lower"),
    ],
)
def test_impossible_alphabets_are_refused(letters, message):
    with pytest.raises(ValueError, match=message):
        Alphabet(letters)
