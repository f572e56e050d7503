"""A sheet of pictures, with what several models and a person say of each below it."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from growprune.files import replacing

_COLUMNS = 4
_SIDE = 3.2  # inches of a picture's place
_LETTERS_A_LINE = 46
_FONT_SIZE = 8.5  # points, and so are these
_LINE = 12.0
_GAP = 4.0
_LEGEND = 24.0
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Described:
    """A picture and what is said of it.

    Attributes:
        image: `(height, width, 3)` uint8.
        captions: sentences by the name of who says them; every picture of a sheet has the same.
    """

    image: np.ndarray
    captions: Mapping[str, str]


def write_sheet(pictures: Sequence[Described], path: str | Path) -> None:
    """Draw pictures in rows, each with its captions below it.

    Args:
        pictures: one or more.
        path: the PNG file to write.

    Raises:
        DataError: the file cannot be written.
    """
    figure = draw_sheet(pictures)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})


def draw_sheet(pictures: Sequence[Described]) -> Figure:
    """The sheet as a figure."""
    columns = min(_COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    texts = [[_wrapped(text) for text in picture.captions.values()] for picture in pictures]
    below = max(sum(_height(text) for text in column) for column in texts) + 2 * _GAP
    cell = _SIDE + below / 72
    height = cell * rows + _LEGEND / 72
    figure = Figure(figsize=(_SIDE * columns, height))
    _write_legend(figure, list(pictures[0].captions))
    for number, (picture, column) in enumerate(zip(pictures, texts, strict=True)):
        row, place = divmod(number, columns)
        bottom = (cell * (rows - row) - _SIDE) / height
        axes = figure.add_axes((place / columns, bottom, 0.97 / columns, 0.97 * _SIDE / height))
        axes.set_axis_off()
        axes.imshow(picture.image)
        axes.set_anchor("SW")
        _write_below(axes, column)
    return figure


def _wrapped(text: str) -> str:
    lines = textwrap.wrap(text, _LETTERS_A_LINE) or ["(nothing)"]
    return "\n".join(lines).replace("$", r"\$")  # which would begin a formula


def _height(text: str) -> float:
    return _LINE * (text.count("\n") + 1) + _GAP


def _write_legend(figure: Figure, names: Sequence[str]) -> None:
    """Who says what: the names in their captions' order and colours."""
    right, top = 0.005, 1 - _GAP / 72 / figure.get_figheight()
    for name, colour in zip(names, cycle(_COLOURS), strict=False):
        text = figure.text(
            right, top, name, color=colour, weight="bold", fontsize=_FONT_SIZE, va="top"
        )
        right += text.get_window_extent().width / figure.bbox.width + 0.03


def _write_below(axes: Axes, texts: Sequence[str]) -> None:
    down = -_GAP
    for text, colour in zip(texts, cycle(_COLOURS), strict=False):
        axes.annotate(
            text,
            (0, 0),
            xycoords="axes fraction",
            xytext=(2, down),
            textcoords="offset points",
            color=colour,
            fontsize=_FONT_SIZE,
            va="top",
        )
        down -= _height(text)
