"""MSCOCO's official layout: `annotations/captions_*.json` beside the folders of images.

coco/
  annotations/captions_train2014.json  captions_val2014.json
  train2014/  val2014/
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from growprune.data.captions.corpus import CaptionCorpus, Listed, gather, split_by_hash
from growprune.data.captions.reading import objects, parse_object, read_text, text_of
from growprune.errors import DataError


def is_coco(content: dict[str, Any]) -> bool:
    """Whether a parsed JSON file has this layout."""
    return "images" in content and "annotations" in content


def read_coco(files: Sequence[Path], name: str, folder: Path) -> CaptionCorpus:
    """The corpus of one annotation file or more.

    What stands in `captions_train*` is for training. Of `captions_val*`, whose official test set
    has no public captions, one half is dev and one is test, chosen by the hash of the image's name.
    Other files are split by that hash, eight to one to one.

    Raises:
        DataError: something in a file cannot be used.
    """
    listed = [image for path in files for image in _listed(path)]
    return gather(name, folder, listed, files[0])


def _listed(source: Path) -> Iterator[Listed]:
    content = parse_object(read_text(source), str(source))
    names: dict[int | str, str] = {}
    for entry in objects(content, "images", str(source)):
        name = text_of(entry, "file_name", str(source))
        image = _id_of(entry, "id", f"{source}: image {name}")
        if image in names:
            raise DataError(f"{source}: images {names[image]} and {name} have the same id {image}")
        names[image] = name
    captions: dict[int | str, list[str]] = {image: [] for image in names}
    for annotation in objects(content, "annotations", str(source)):
        image = _id_of(annotation, "image_id", f"{source}: a caption")
        if image not in captions:
            raise DataError(f"{source}: a caption is of image {image!r}, which is not listed")
        captions[image].append(text_of(annotation, "caption", f"{source}: image {names[image]}"))
    kind = source.stem.removeprefix("captions_")
    for image, name in names.items():
        yield Listed(name, kind, tuple(captions[image]), _split(kind, name))


def _id_of(entry: dict[str, Any], key: str, place: str) -> int | str:
    value = entry.get(key)
    if not isinstance(value, int | str):
        raise DataError(f"{place}: {key!r} is {value!r}; it must be a number")
    return value


def _split(kind: str, name: str) -> str | None:
    if kind.startswith("train"):
        return "train"
    if kind.startswith("val"):
        return split_by_hash(name, {"dev": 1, "test": 1})
    return None
