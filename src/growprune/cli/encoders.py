"""Opening the encoder that computes features."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from growprune.data import LITE0, lite0_path
from growprune.errors import DataError, ModelFileError
from growprune.pipelines import ImageEncoder

_TORCH = ("torchvision:", "timm:")


class Encoder(Protocol):
    """What computes features: `ImageEncoder`, or a network in torch."""

    @property
    def name(self) -> str:
        """What tables of features and captioners call it."""
        ...

    @property
    def pool(self) -> int:
        """Rows and columns of parts of a picture, a mean of each of which is taken."""
        ...

    @property
    def width(self) -> int:
        """Numbers an image."""
        ...

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The features `(len(images), width)` of pictures `(height, width, 3)` uint8."""
        ...


def open_encoder(name: str, pool: int = 1) -> Encoder:
    """An encoder by its name; the default one needs torch only where it was never used before.

    Args:
        name: of the encoder, or an encoder's ONNX file (`.onnx`), which has a pool of its own.
        pool: rows and columns of parts of a picture whose means are taken.

    Raises:
        DataError: the encoder is unknown, or cannot be had here.
        ModelFileError: the file cannot be used.
    """
    if name.endswith(".onnx"):
        return ImageEncoder(name, threads=_cores())
    if name.startswith(_TORCH):
        if pool != 1:
            raise DataError(f"encoder {name} has pool 1, not {pool}")
        return _torch_encoder(name)
    path = lite0_path(pool)
    if name != LITE0 or not path.is_file():
        path = _built(name, pool)
    return ImageEncoder(path, threads=_cores())


def encoder_for(wanted: Mapping[str, Any], file: Path | None = None) -> Encoder:
    """The encoder that a captioner was trained with.

    Args:
        wanted: its `name`, `pool` and `width`, as the captioner says.
        file: an encoder's ONNX file; found by the name if not given.

    Raises:
        DataError: see `open_encoder`.
        ModelFileError: the file cannot be used, or the encoder is another one.
    """
    if file is None:
        encoder = open_encoder(wanted["name"], wanted["pool"])
    else:
        encoder = ImageEncoder(file, threads=_cores())
    found = {"name": encoder.name, "pool": encoder.pool, "width": encoder.width}
    for key, value in found.items():
        if value != wanted[key]:
            raise ModelFileError(
                f"{file or encoder.name}: its {key} is {value!r}, but the captioner was trained "
                f"with an encoder of {key} {wanted[key]!r}; name that encoder's file"
            )
    return encoder


def _built(name: str, pool: int) -> Path:
    """The default encoder's file, built now; it raises for any other name."""
    try:
        from growprune.tasks.captioning.encoders import encoder_file
    except ImportError as error:
        raise _no_torch(name, error) from error
    return encoder_file(name, pool)


def _torch_encoder(name: str) -> Encoder:
    try:
        from growprune.tasks.captioning.torch_encoders import torch_encoder
    except ImportError as error:
        raise _no_torch(name, error) from error
    return torch_encoder(name)


def _no_torch(name: str, error: ImportError) -> DataError:
    return DataError(
        f"encoder {name} needs {error.name}, which is not installed; build the encoder's file "
        "where it is and name it with --encoder, or caption from ready features"
    )


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
