"""Reading pictures: right whatever their mode and rotation, or one readable line."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from growprune.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 100_000_000
"""A picture with more is refused: it would take more than 300 MB, and may be made to do so."""

# What cameras and the web make. Pillow's other readers are for rarer files; one starts a program.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
)


def open_image(path: str | Path) -> np.ndarray:
    """Read a picture as RGB.

    It is turned as its EXIF data says; grey, palette and CMYK become RGB; 16 bits become 8;
    transparent parts show white; of several frames the first is taken.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        DataError: the file is missing, not a picture, broken, truncated or too large.
    """
    path = Path(path)
    Image = _pillow()
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    try:
        # Pillow warns of sizes, which are checked here, and of EXIF data that it can do without.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
            _check_size(path, image)
            return np.array(_as_rgb(image))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than twice as many") from error
    except Exception as error:  # a decoder raises whatever it stumbles on in a broken file
        reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
        raise DataError(
            f"{path}: not a picture that can be read ({reason or type(error).__name__}); save it "
            "again as JPEG or PNG, or leave it out"
        ) from error


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Squash a picture `(height, width, 3)` uint8 into a square `(size, size, 3)`, bicubically."""
    Image = _pillow()
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def image_files(folder: str | Path) -> list[Path]:
    """The pictures in a folder and in those below it, by their suffixes, in order of their names.

    Hidden files, whose names begin with a dot, are left out.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    files = sorted(path for path in folder.rglob("*") if _is_shown(path) and path.is_file())
    if not files:
        raise DataError(
            f"{folder}: no pictures in it; looked for {', '.join(sorted(_SUFFIXES))} files"
        )
    return files


def _is_shown(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _pillow():  # type: ignore[no-untyped-def]  # a module has no better type
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            'Pillow is needed to read pictures; install it: pip install "growprune[captioning]"'
        ) from error
    return Image


def _check_size(path: Path, image: "Image") -> None:
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(path, f"{image.width} x {image.height} pixels")


def _too_large(path: Path, size: str) -> DataError:
    return DataError(
        f"{path}: too large ({size}; {MOST_PIXELS // 1_000_000} million can be); save it smaller"
    )


def _as_rgb(image: "Image") -> "Image":
    from PIL import Image, ImageOps

    image.load()
    # Of the formats read, only PPM has 16 bits in this mode.
    deep = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
    image = ImageOps.exif_transpose(image)
    if deep:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
