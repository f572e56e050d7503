"""Tables of one's own: a CSV file or JSON lines, a row for each caption.

    file,caption,split
    dog.jpg,A dog runs.,train
    dog.jpg,"A brown dog, running.",train

The column of the split may be left out.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from growprune.data.captions.corpus import CaptionCorpus, Listed, gather
from growprune.data.captions.reading import parse_object, read_text, text_of
from growprune.errors import DataError

# What the columns are called here, and in tables that are found elsewhere.
_FILE = ("file", "file_name", "filename", "image")
_CAPTION = ("caption", "text")


def read_rows(source: Path, folder: Path) -> CaptionCorpus:
    """The corpus of a `.csv` or `.jsonl` file; without splits, eight to one to one by name's hash.

    Raises:
        DataError: naming the line that cannot be used.
    """
    text = read_text(source)
    rows = _csv(text, source) if source.suffix.lower() == ".csv" else _json_lines(text, source)
    return gather(source.stem.removeprefix("captions_"), folder, _listed(rows), source)


def _listed(rows: Iterator[tuple[str, dict[str, Any]]]) -> list[Listed]:
    captions: dict[str, list[str]] = {}
    splits: dict[str, str | None] = {}
    for place, row in rows:
        name = text_of(row, _column(_FILE, row, place), place)
        caption = text_of(row, _column(_CAPTION, row, place), place)
        if not name.strip() or not caption.strip():
            raise DataError(f"{place}: an empty file name or caption; write both or drop the line")
        split = text_of(row, "split", place) if "split" in row else None
        if splits.setdefault(name, split) != split:
            raise DataError(f"{place}: {name} is in split {split!r}, above in {splits[name]!r}")
        captions.setdefault(name, []).append(caption)
    return [Listed(name, "", tuple(texts), splits[name]) for name, texts in captions.items()]


def _column(names: tuple[str, ...], row: dict[str, Any], place: str) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise DataError(
            f"{place}: no {' or '.join(map(repr, names))} among the columns {', '.join(row)}; "
            "name the columns file, caption and, if there are splits, split"
        )
    return found


def _csv(text: str, source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            place = f"{source}:{reader.line_num}"
            if None in row:
                raise DataError(
                    f"{place}: more columns than the first line; put a caption with commas in "
                    "quotation marks"
                )
            yield place, row
    except csv.Error as error:
        raise DataError(f"{source}:{reader.line_num}: not CSV ({error}); correct it") from error


def _json_lines(text: str, source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{source}:{number}", parse_object(line, f"{source}:{number}")
