"""Words of captions and their numbers."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

END = "<end>"
UNKNOWN = "<unknown>"

# A run of letters and digits, or the 's of a possessive: words as Karpathy's files have them.
_WORD = re.compile(r"[^\W_]+|(?<=[^\W_])(?:\s?'s)(?![^\W_])")


def words_of(text: str) -> list[str]:
    """The words of a sentence: lower-cased, without punctuation, a possessive 's on its own.

    Hyphens separate: `A dog's t-shirt.` has the words `a`, `dog`, `'s`, `t`, `shirt`.
    """
    return [word.strip() for word in _WORD.findall(text.lower().replace("\u2019", "'"))]


@dataclass(frozen=True)
class Vocabulary:
    """The words a captioner can write.

    Attributes:
        words: Each word once; number 0 is `<end>`, number 1 is `<unknown>`.
    """

    words: tuple[str, ...]

    def __init__(self, words: Sequence[str]):
        if tuple(words[:2]) != (END, UNKNOWN):
            raise ValueError(f"a vocabulary begins with {END} and {UNKNOWN}, not {list(words[:2])}")
        repeated = [word for word, count in Counter(words).items() if count > 1]
        if repeated:
            raise ValueError(f"words {repeated[:3]} stand in the vocabulary more than once")
        object.__setattr__(self, "words", tuple(words))  # frozen, but takes any sequence

    @classmethod
    def build(cls, sentences: Iterable[str], least: int = 5) -> "Vocabulary":
        """The words seen at least `least` times, the most frequent first, ties by alphabet."""
        counts = Counter(word for sentence in sentences for word in words_of(sentence))
        kept = sorted((-count, word) for word, count in counts.items() if count >= least)
        return cls([END, UNKNOWN, *(word for _, word in kept)])

    def __len__(self) -> int:
        """Number of words, the two special ones included: the width of a captioner's output."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Numbers of the words of `text`, unknown ones as 1; no end is appended."""
        return [self._numbers.get(word, 1) for word in words_of(text)]

    def decode(self, numbers: Iterable[int]) -> str:
        """Text of word numbers up to the first end, a possessive 's joined to its word."""
        words: list[str] = []
        for number in numbers:
            if number == 0:
                break
            words.append(self.words[number])
        return " ".join(words).replace(" 's", "'s")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}
