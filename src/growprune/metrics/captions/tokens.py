"""Sentences to tokens as the Penn Treebank splits them, in the variant that caption scores use."""

import re

# Tokens that say nothing of a picture.
DROPPED = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:;-", "--", "..."]
)

# The stem keeps at least a letter: "n't" by itself is not split.
_CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))$")
_TOKEN = re.compile(r"\w+(?:[-'.,]\w+)*|\S")


def tokenize(text: str) -> list[str]:
    """Tokens."""
    tokens = []
    for token in _TOKEN.findall(text.lower()):
        tokens += _CONTRACTION.sub(r" \1", token).split()
    return [token for token in tokens if token not in DROPPED]
