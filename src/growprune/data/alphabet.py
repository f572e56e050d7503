"""Letters of transcripts and their numbers."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from growprune.errors import DataError

BLANK = 0


@dataclass(frozen=True)
class Alphabet:
    """The letters a recogniser can write; number 0 is the CTC blank, letters count from 1.

    Attributes:
        letters: Each letter once, upper case where there is case, space for the word boundary.
    """

    letters: str

    def __post_init__(self) -> None:
        if not self.letters:
            raise ValueError("an alphabet needs at least one letter")
        repeated = sorted({letter for letter in self.letters if self.letters.count(letter) > 1})
        if repeated:
            raise ValueError(f"letters {repeated} stand in the alphabet more than once")
        lower = [letter for letter in self.letters if letter != letter.upper()]
        if lower:
            raise ValueError(f"letters {lower} are lower case; transcripts are upper-cased")

    def __len__(self) -> int:
        """Number of symbols, the blank included: the width of a recogniser's output."""
        return len(self.letters) + 1

    def encode(self, text: str) -> list[int]:
        """Numbers of the letters of `text`, normalised first.

        Raises:
            DataError: a letter is not in the alphabet.
        """
        normal = normalise_text(text)
        try:
            return [self._numbers[letter] for letter in normal]
        except KeyError:
            unknown = "".join(sorted(set(normal) - set(self.letters)))
            raise DataError(
                f"transcript {text!r} has {unknown!r}, not in the alphabet {self.letters!r}; "
                "correct the transcript or add the letters to the recipe's alphabet"
            ) from None

    def decode(self, numbers: Iterable[int]) -> str:
        """Text of letter numbers; blanks are left out."""
        return "".join(self.letters[number - 1] for number in numbers if number != BLANK)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {letter: number for number, letter in enumerate(self.letters, start=1)}


def normalise_text(text: str) -> str:
    """Upper case, composed characters, single spaces between words and none around them."""
    return " ".join(unicodedata.normalize("NFC", text.upper()).split())


ENGLISH = Alphabet(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
