"""A corpus of captioned images, and how a list of images becomes one."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from growprune.errors import DataError

# The names that corpora give to their splits; what is unassigned belongs to none.
_SPLITS = {
    "train": "train",
    "restval": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "unassigned": None,
}
_ORDER = ("train", "dev", "test")


@dataclass(frozen=True)
class CaptionedImage:
    """An image and the sentences that describe it.

    Attributes:
        name: File name, unique in its corpus; the key of its features.
        path: The picture, where it is at hand; features do without it.
        captions: One sentence or more, as they were written.
    """

    name: str
    path: Path | None
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionCorpus:
    """Named splits (`train`, `dev`, `test`) of captioned images.

    Attributes:
        name: What reports call the corpus.
        folder: Where its pictures are looked for.
        splits: Images by the name of their split; one without images is absent.
    """

    name: str
    folder: Path
    splits: Mapping[str, tuple[CaptionedImage, ...]]

    def split(self, name: str) -> tuple[CaptionedImage, ...]:
        """The images of one split, or of every split if `name` is `all`.

        Raises:
            DataError: the corpus has no such split.
        """
        if name == "all":
            return tuple(image for images in self.splits.values() for image in images)
        if name not in self.splits:
            raise DataError(
                f"corpus {self.name} in {self.folder} has no {name} split, only "
                f"{', '.join(self.splits)}; name one of these or all"
            )
        return self.splits[name]


@dataclass(frozen=True)
class Listed:
    """An image as a file lists it; what is wrong with it is found out by `gather`.

    Attributes:
        name: File name.
        folder: Folder of the picture, as the file gives it; empty where it does not.
        captions: The sentences.
        split: The file's name for the split, None where it has none.
    """

    name: str
    folder: str
    captions: tuple[str, ...]
    split: str | None


def gather(name: str, folder: Path, listed: Iterable[Listed], source: Path) -> CaptionCorpus:
    """Make a corpus of listed images, each checked, each with its split.

    Args:
        name: The corpus's name.
        folder: Where to look for pictures: here, in `images`, and in the folders listed.
        listed: The images in the file's order.
        source: The file, for messages.

    Raises:
        DataError: an image is listed twice, has no name, no caption or an empty one, or an unknown
            split.
    """
    splits: dict[str, list[CaptionedImage]] = {split: [] for split in _ORDER}
    seen: set[str] = set()
    for image in listed:
        if not image.name.strip():
            raise DataError(f"{source}: lists an image without a file name; write it")
        if image.name in seen:
            raise DataError(f"{source}: lists image {image.name} twice; keep one of the two")
        seen.add(image.name)
        _check_captions(image, source)
        split = _split(image, source)
        if split:
            path = _picture(folder, image, source)
            splits[split].append(CaptionedImage(image.name, path, image.captions))
    found = {split: tuple(images) for split, images in splits.items() if images}
    if not found:
        raise DataError(f"{source}: lists no image with captions; name another file")
    return CaptionCorpus(name, folder, found)


def split_by_hash(name: str, shares: Mapping[str, int]) -> str:
    """Choose a split by the SHA-256 of an image's name: always the same one, on every machine.

    Args:
        name: The image's.
        shares: Parts of the whole by split, such as 8 for train, 1 for dev and 1 for test.
    """
    digest = hashlib.sha256(name.encode()).digest()
    place = int.from_bytes(digest[:8], "big") % sum(shares.values())
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("a remainder is less than its divisor")


def _check_captions(image: Listed, source: Path) -> None:
    if not image.captions:
        raise DataError(f"{source}: image {image.name} has no caption; add one or drop the image")
    if not all(caption.strip() for caption in image.captions):
        raise DataError(f"{source}: image {image.name} has an empty caption; write or remove it")


def _split(image: Listed, source: Path) -> str | None:
    if image.split is None:
        return split_by_hash(image.name, {"train": 8, "dev": 1, "test": 1})
    try:
        return _SPLITS[image.split.strip().lower()]
    except KeyError:
        raise DataError(
            f"{source}: image {image.name} is in a split {image.split!r}; known are "
            f"{', '.join(_SPLITS)}"
        ) from None


def _picture(folder: Path, image: Listed, source: Path) -> Path | None:
    candidates = (
        folder / image.folder / image.name,
        folder / "images" / image.folder / image.name,
        folder / "images" / image.name,
        folder / image.name,
    )
    try:
        return next((path for path in candidates if path.is_file()), None)
    except OSError as error:  # a name that cannot be one, such as a caption in its place
        raise DataError(
            f"{source}: image {image.name[:60]} cannot be looked for ({error.strerror}); correct "
            "its name"
        ) from error
