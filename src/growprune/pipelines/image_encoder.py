"""A frozen image network: pictures in, features out, by onnxruntime and without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from growprune.data import resized
from growprune.errors import DataError, ModelFileError
from growprune.settings import Settings, settings_error

METADATA = "growprune.encoder"
"""The key of an ONNX file's metadata under which `EncoderSettings` stand, as JSON text."""


class EncoderSettings(Settings):
    """How pictures become an encoder's input, and what its output is called."""

    name: str = Field(min_length=1)
    """What tables of features and captioners call it."""
    pool: int = Field(ge=1)
    """Rows and columns of parts of a picture whose means are taken; 1 is the whole picture."""
    width: int = Field(ge=1)
    """Numbers an image."""
    size: int = Field(ge=1)
    """Height and width of the input; pictures are squashed to it."""
    mean: float
    """Subtracted from a colour between 0 and 1, ..."""
    std: float = Field(gt=0)
    """... which is then divided by this."""


class ImageEncoder:
    """Computes features by an ONNX file that `growprune.tasks.captioning.encoders` built.

    Its input `images` is `(n, 3, size, size)`, its output `features` `(n, width)`; its metadata
    hold `EncoderSettings`.

    Args:
        path: The file.
        threads: How many compute.

    Raises:
        DataError: onnxruntime is not installed.
        ModelFileError: the file is missing, damaged or not an encoder.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        self.path = Path(path)
        self._session = _session(self.path, threads)
        self.settings = _settings(self._session, self.path)

    @property
    def name(self) -> str:
        """What tables of features and captioners call the encoder."""
        return self.settings.name

    @property
    def pool(self) -> int:
        """Rows and columns of parts of a picture, a mean of each of which is taken."""
        return self.settings.pool

    @property
    def width(self) -> int:
        """Numbers an image."""
        return self.settings.width

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The features of pictures of any size, `(height, width, 3)` uint8 RGB each.

        Returns:
            `(len(images), width)` float32.
        """
        if not images:
            return np.zeros((0, self.width), np.float32)
        size, mean, std = self.settings.size, self.settings.mean, self.settings.std
        squashed = np.stack([resized(image, size) for image in images])
        scaled = (squashed.astype(np.float32) / 255 - mean) / std
        (features,) = self._session.run(
            ["features"], {"images": np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))}
        )
        return np.asarray(features, dtype=np.float32)


def _session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DataError(
            "onnxruntime is needed to encode pictures; install it: "
            'pip install "growprune[captioning]"'
        ) from error
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; name an encoder's ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised as well
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class for each kind of damage, all of a private module
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{path}: not an ONNX file that runs ({reason})") from error


def _settings(session: Any, path: Path) -> EncoderSettings:
    found = session.get_modelmeta().custom_metadata_map.get(METADATA)
    names = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
    if found is None or names != ["images", "features"]:
        raise ModelFileError(
            f"{path}: not an image encoder: it needs an input images, an output features and "
            f"settings as {METADATA} in its metadata"
        )
    try:
        settings = EncoderSettings.model_validate_json(found)
    except ValidationError as error:
        raise ModelFileError(str(settings_error(error, EncoderSettings, str(path)))) from error
    shape = (session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[1:])
    if shape != ([3, settings.size, settings.size], [settings.width]):
        raise ModelFileError(f"{path}: its settings do not fit its shapes {shape}")
    return settings
