"""Karpathy's layout: one JSON file with the images, their splits and sentences.

    {"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "A dog ."}]}]}

Flickr8k, Flickr30k and MSCOCO are handed around like this; MSCOCO's also gives each image's folder,
as `filepath`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from growprune.data.captions.corpus import CaptionCorpus, Listed, gather
from growprune.data.captions.reading import as_object, objects, text_of
from growprune.errors import DataError


def is_karpathy(content: dict[str, Any]) -> bool:
    """Whether a parsed JSON file has this layout."""
    images = content.get("images")
    first = images[0] if isinstance(images, list) and images else None
    return isinstance(first, dict) and "sentences" in first


def read_karpathy(content: dict[str, Any], source: Path, folder: Path) -> CaptionCorpus:
    """The corpus of a parsed file.

    Raises:
        DataError: something in it cannot be used.
    """
    name = source.stem.removeprefix("dataset_")
    return gather(name, folder, _listed(content, source), source)


def _listed(content: dict[str, Any], source: Path) -> Iterator[Listed]:
    for number, entry in enumerate(objects(content, "images", str(source))):
        place = f"{source}: image {number}"
        name = text_of(entry, "filename", place)
        sentences = objects(entry, "sentences", f"{source}: image {name}")
        yield Listed(
            name=name,
            folder=text_of({"filepath": "", **entry}, "filepath", place),
            captions=tuple(_caption(sentence, f"{source}: image {name}") for sentence in sentences),
            split=text_of(entry, "split", place) if "split" in entry else None,
        )


def _caption(sentence: dict[str, Any], place: str) -> str:
    if "raw" in sentence:
        return text_of(sentence, "raw", place)
    tokens = as_object(sentence, place).get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise DataError(f"{place}: has a sentence with neither 'raw' nor 'tokens'; add one")
    return " ".join(tokens)
