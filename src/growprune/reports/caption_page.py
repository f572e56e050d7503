"""A page of pictures with their captions: one HTML file that needs no other."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TextIO

import numpy as np

from growprune.files import replacing

_LONGEST_SIDE = 320
"""Pixels of a thumbnail."""

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 2rem auto; max-width: 80rem; padding: 0 1rem; font: 1rem/1.4 sans-serif; }}
h1 {{ font-size: 1.3rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.5rem; }}
figure {{ margin: 0; }}
img {{ width: 100%; height: 15rem; object-fit: contain; background: #8882; }}
small {{ opacity: .65; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<main>
"""
_FIGURE = """<figure>
<img src="data:image/jpeg;base64,{picture}" alt="{alternative}">
<figcaption>{caption}<br><small>{name}</small></figcaption>
</figure>
"""
_FOOT = """</main>
</body>
</html>
"""


class CaptionPage:
    """An open page, which takes pictures one by one and keeps none of them in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, name: str, picture: bytes, captions: Sequence[str]) -> None:
        """Write one picture.

        Args:
            name: such as the file's, written below the captions; any text.
            picture: a JPEG file's bytes; see `thumbnail`.
            captions: written one below the other; any text.
        """
        self._file.write(
            _FIGURE.format(
                picture=base64.b64encode(picture).decode(),
                alternative=escape(captions[0] if captions else name),
                caption="<br>".join(map(escape, captions)),
                name=escape(name),
            )
        )


@contextmanager
def caption_page(path: str | Path, title: str) -> Iterator[CaptionPage]:
    """Open a page; the file appears, whole, when the block succeeds.

    Args:
        path: the HTML file to write.
        title: the page's heading; any text.

    Raises:
        DataError: the file cannot be written.
    """
    with (
        replacing(path) as temporary,
        # Names of files may hold what is no text.
        temporary.open("w", encoding="utf-8", errors="xmlcharrefreplace") as file,
    ):
        file.write(_HEAD.format(title=escape(title)))
        yield CaptionPage(file)
        file.write(_FOOT)


def thumbnail(image: np.ndarray) -> bytes:
    """A picture `(height, width, 3)` uint8 as a small JPEG file, at most 320 pixels long."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), reducing_gap=2)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
