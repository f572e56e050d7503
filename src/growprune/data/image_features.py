"""Features of images: tables of one row an image, ready-made or computed here.

A table of our own is a folder:

    features.npy    `(images, width)` float16, mapped into memory, not read
    names.jsonl     an image's name a line, as JSON text, in the order of the rows
    encoder.json    what the features were computed by

The head of `features.npy` is written last, so whatever interrupts the writing, the table holds
whole rows, and the writing goes on after them.
"""

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from growprune.errors import DataError
from growprune.files import replacing, write_text

_FEATURES, _NAMES, _ENCODER = "features.npy", "names.jsonl", "encoder.json"
_DTYPE = np.dtype("<f2")
_ROWS_AT_ONCE = 4096
_SHOWN = 3


@dataclass(frozen=True)
class FeatureTable:
    """Features of images, found by the images' names.

    Attributes:
        names: The images', each once.
        features: `(images, width)` of floats.
        source: The file, for messages.
        encoder: What computed them (`name`, `pool`, ...), where the file says so.

    Raises:
        DataError: names and rows do not match, a name stands there twice, or a value is not finite.
    """

    names: tuple[str, ...]
    features: np.ndarray
    source: str = "features"
    encoder: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        shape, kind = self.features.shape, self.features.dtype.kind
        if len(shape) != 2 or kind != "f" or shape[1] == 0:
            raise DataError(
                f"{self.source}: features are {self.features.dtype} of shape {shape}; they must be "
                "floats of shape (images, width)"
            )
        if len(self.names) != shape[0]:
            raise DataError(f"{self.source}: {len(self.names)} names for {shape[0]} rows")
        if len(self._places) != len(self.names):
            twice, _ = Counter(self.names).most_common(1)[0]
            raise DataError(f"{self.source}: has features of {twice} twice; keep one of the two")
        self._check_finite()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        """Whether there are features of an image."""
        return name in self._places

    @property
    def width(self) -> int:
        """Numbers an image."""
        return int(self.features.shape[1])

    def row(self, name: str) -> np.ndarray:
        """The features of one image: `(width,)` float32.

        Raises:
            DataError: there are none.
        """
        return self.rows([name])[0]

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """The features of some images: `(len(names), width)` float32.

        Raises:
            DataError: there are none of one of them.
        """
        self.require(names)
        places = [self._places[name] for name in names]
        return np.asarray(self.features[places], dtype=np.float32)

    def require(self, names: Iterable[str], width: int | None = None) -> None:
        """Check that there are features of these images and, if given, of this width.

        Raises:
            DataError: naming the first images without any, or both widths.
        """
        if width is not None and width != self.width:
            raise DataError(
                f"{self.source}: features are {self.width} wide, but the model takes {width}; "
                "compute them with the model's encoder"
            )
        missing = [name for name in names if name not in self._places]
        if missing:
            more = f" (and {len(missing) - _SHOWN} more)" if len(missing) > _SHOWN else ""
            raise DataError(
                f"{self.source}: no features of {', '.join(missing[:_SHOWN])}{more}; compute them "
                "with growprune data features"
            )

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def _check_finite(self) -> None:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            finite = np.isfinite(self.features[start : start + _ROWS_AT_ONCE]).all(axis=1)
            if not finite.all():
                name = self.names[start + int(np.argmin(finite))]
                raise DataError(
                    f"{self.source}: the features of {name} are not finite; compute them again"
                )


def open_features(path: str | Path) -> FeatureTable:
    """Open a table: a folder that `growprune data features` wrote, or a `.npz` file.

    A `.npz` file holds `names` (text) and `features` `(images, width)`. Nothing is unpickled.

    Raises:
        DataError: the file is missing or damaged, or what `FeatureTable` refuses.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; compute features with growprune data features IMAGES -o {path}"
        )
    return _open_npz(path)


class FeatureWriter:
    """Writes a table row after row, and goes on after the rows that are there.

    Args:
        folder: The table's.
        width: Numbers an image.
        encoder: What computes them; it must be the same when the writing goes on.

    Raises:
        DataError: the folder cannot be written, or holds something else.
    """

    def __init__(self, folder: str | Path, width: int, encoder: Mapping[str, Any]):
        self.folder = Path(folder)
        self.width = width
        self.done: set[str] = set()
        self._head = b""
        self._names_end = 0
        self._begin_or_go_on(dict(encoder) | {"width": width})

    def append(self, names: Sequence[str], features: np.ndarray) -> None:
        """Add the rows of some images; when it returns, they are on the disk.

        Args:
            names: The images', none of which is in the table.
            features: `(len(names), width)`.

        Raises:
            DataError: a value is not finite, or the disk is full.
        """
        if features.shape != (len(names), self.width):
            raise ValueError(f"features have shape {features.shape}, not {len(names), self.width}")
        if repeated := self.done.intersection(names):
            raise ValueError(f"{min(repeated)} is in the table already")
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused
            rows = FeatureTable(tuple(names), features.astype(_DTYPE), str(self.folder))
        lines = "".join(json.dumps(name) + "\n" for name in names).encode()
        total = len(self.done) + len(names)
        start = len(self._head) + len(self.done) * self.width * _DTYPE.itemsize
        try:
            _write_end(self.folder / _FEATURES, start, rows.features.tobytes())
            _write_end(self.folder / _NAMES, self._names_end, lines)
            self._write_head(total)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be written ({error.strerror}); free some space and run "
                "the command again: it goes on where it stopped"
            ) from error
        self.done.update(names)
        self._names_end += len(lines)

    def _begin_or_go_on(self, encoder: dict[str, Any]) -> None:
        self._head = _head(0, self.width)
        path = self.folder / _FEATURES
        if not path.is_file():
            self._check_begun()
            write_text(self.folder / _ENCODER, json.dumps(encoder, indent=2) + "\n")
            write_text(self.folder / _NAMES, "")
            with replacing(path) as temporary:
                temporary.write_bytes(self._head)
            return
        table = _open_folder(self.folder)
        if dict(table.encoder or {}) != encoder:
            raise DataError(
                f"{self.folder}: was computed by {_told(table.encoder or {})}, not by "
                f"{_told(encoder)}; name a new folder"
            )
        self.done = set(table.names)
        lines = (self.folder / _NAMES).read_bytes().split(b"\n")[: len(table)]
        self._names_end = sum(len(line) + 1 for line in lines)

    def _check_begun(self) -> None:
        """A folder without a table holds nothing but what an interrupted beginning left there."""
        if not self.folder.exists():
            return
        unfinished = tuple(f".{name}." for name in (_FEATURES, _NAMES, _ENCODER))
        if not self.folder.is_dir() or any(
            path.name not in (_ENCODER, _NAMES) and not path.name.startswith(unfinished)
            for path in self.folder.iterdir()
        ):
            raise DataError(f"{self.folder}: holds something else; name a new folder")

    def _write_head(self, rows: int) -> None:
        with (self.folder / _FEATURES).open("r+b") as file:
            file.write(_head(rows, self.width))
            file.flush()
            os.fsync(file.fileno())


def _head(rows: int, width: int) -> bytes:
    """What a table's file begins with, as long for any number of rows: NumPy leaves room."""
    file = io.BytesIO()
    description = {"descr": _DTYPE.str, "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, description)
    return file.getvalue()


def _write_end(path: Path, start: int, content: bytes) -> None:
    """Write from `start` on, over whatever an interrupted writing left there."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _told(encoder: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in encoder.items()) or "something unknown"


def _open_folder(folder: Path) -> FeatureTable:
    path = folder / _FEATURES
    try:
        with path.open("rb") as file:
            shape, start = _read_head(file, path)
        if path.stat().st_size < start + shape[0] * shape[1] * _DTYPE.itemsize:
            raise DataError(f"{path}: is cut short; compute the features again")
        # Nothing cannot be mapped.
        features: np.ndarray = np.zeros(shape, _DTYPE)
        if shape[0]:
            features = np.memmap(path, _DTYPE, "r", start, shape)
        lines = (folder / _NAMES).read_text(encoding="utf-8").split("\n")[: shape[0]]
        names = tuple(str(json.loads(line)) for line in lines)
        encoder = json.loads((folder / _ENCODER).read_text(encoding="utf-8"))
        if not isinstance(encoder, dict) or encoder.get("width", shape[1]) != shape[1]:
            raise ValueError(f"it does not describe features that are {shape[1]} wide")
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); name a folder written "
            "by growprune data features, or a .npz file"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{folder}: its {_NAMES} or {_ENCODER} is damaged ({error}); compute the features again"
        ) from error
    return FeatureTable(names, features, str(folder), encoder)


def _read_head(file: BinaryIO, path: Path) -> tuple[tuple[int, int], int]:
    """Shape of the table and where its numbers begin."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # whatever NumPy stumbles on in a damaged head
        raise DataError(
            f"{path}: not a table of features ({_reason(error)}); compute it again"
        ) from error
    if len(shape) != 2 or min(shape) < 0 or fortran or dtype != _DTYPE:
        raise DataError(f"{path}: {dtype} of shape {shape}; compute the features again")
    return (int(shape[0]), int(shape[1])), file.tell()


def _open_npz(path: Path) -> FeatureTable:
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            names, features = arrays["names"], arrays["features"]
    except KeyError as error:
        raise DataError(f"{path}: has no array {error}; it needs names and features") from error
    except Exception as error:  # whatever zipfile and NumPy stumble on in a damaged file
        raise DataError(
            f"{path}: not a .npz file of names and features ({_reason(error)}); name another file"
        ) from error
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DataError(
            f"{path}: names are {names.dtype} of shape {names.shape}; they must be text"
        )
    return FeatureTable(tuple(names.tolist()), features, str(path))


def _reason(error: Exception) -> str:
    """What an error of another library says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
