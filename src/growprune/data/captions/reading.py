"""Parts of JSON files, checked: a wrong one is named with its file."""

import json
from pathlib import Path
from typing import Any

from growprune.errors import DataError


def read_text(path: Path) -> str:
    """The whole file as text; a byte order mark is dropped.

    Raises:
        DataError: the file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; save it as UTF-8") from error


def parse_object(text: str, place: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: the text is no JSON, or JSON of another kind.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); correct it or fetch it again") from error
    return as_object(value, place)


def as_object(value: Any, place: str) -> dict[str, Any]:
    """`value`, which must be a JSON object."""
    if not isinstance(value, dict):
        raise DataError(f"{place}: is a {type(value).__name__}; it must be a JSON object")
    return value


def objects(entry: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    """The list of objects under `key`."""
    value = entry.get(key)
    if not isinstance(value, list):
        raise DataError(f"{place}: has no list {key!r}; its keys are {', '.join(entry) or 'none'}")
    return [as_object(item, f"{place}: entry {i} of {key}") for i, item in enumerate(value)]


def text_of(entry: dict[str, Any], key: str, place: str) -> str:
    """The text under `key`, empty text included."""
    value = entry.get(key)
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} is {value!r}; it must be text")
    return value
