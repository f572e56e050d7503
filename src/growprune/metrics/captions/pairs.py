"""Candidates and the references they are held against, as tokens."""

from collections.abc import Callable, Iterator, Sequence

Tokens = list[str]
Split = Callable[[str], Tokens]


def split_references(references: Sequence[Sequence[str]], split: Split) -> list[list[Tokens]]:
    """The tokens of every image's references.

    Raises:
        ValueError: no image, or an image without references.
    """
    if not references:
        raise ValueError("no image to score")
    for index, sentences in enumerate(references):
        if isinstance(sentences, str) or not sentences:
            raise ValueError(f"image {index} needs a list of references, got {sentences!r}")
    return [[split(sentence) for sentence in sentences] for sentences in references]


def split_pairs(
    references: Sequence[Sequence[str]], candidates: Sequence[str], split: Split
) -> Iterator[tuple[list[Tokens], Tokens]]:
    """Each image's references with its candidate.

    Raises:
        ValueError: no image, an image without references, or not one candidate for each image.
    """
    check_count(len(references), candidates)
    return zip(split_references(references, split), map(split, candidates), strict=True)


def check_count(images: int, candidates: Sequence[str]) -> None:
    """Refuse anything but one candidate for each image."""
    if images != len(candidates):
        raise ValueError(f"{images} images but {len(candidates)} candidates; give one for each")
