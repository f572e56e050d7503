"""What is in a picture: things, where they are, and what is behind them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

SHAPES = ("circle", "ring", "square", "diamond", "triangle", "star", "cross", "heart")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SIZES = ("small", "middling", "large")
BACKGROUNDS = ("white", "grey", "black", "striped", "dotted")
PLACES = ("left", "right", "top", "bottom", "middle")


@dataclass(frozen=True)
class Things:
    """One shape or several alike.

    Attributes:
        count: from 1 to 4.
        size: one of `SIZES`; several are middling.
        colour: one of `COLOURS`.
        shape: one of `SHAPES`.
    """

    count: int
    size: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Scene:
    """A picture's content, which decides what may be said of it.

    Attributes:
        things: one kind of things, or two that differ in colour or shape.
        layout: of one thing its place, one of `PLACES`; of several alike "row" or "column"; of
            two kinds "beside", the first being on the left, or "above", the first being on top.
        background: one of `BACKGROUNDS`.
    """

    things: tuple[Things, ...]
    layout: str
    background: str


def scenes(seed: int) -> Iterator[Scene]:
    """Yield scenes for ever, no two alike in things and layout, whatever their backgrounds.

    There are more than a hundred thousand, so a corpus of any sensible size is quickly drawn.
    """
    generator = np.random.default_rng([seed, 0])
    kinds = (_one, _row, _two, _two)
    seen: set[tuple[tuple[Things, ...], str]] = set()
    while True:
        things, layout = choice(kinds, generator)(generator)
        if (things, layout) not in seen:
            seen.add((things, layout))
            yield Scene(things, layout, choice(BACKGROUNDS, generator))


def choice(items: Sequence[T], generator: np.random.Generator) -> T:
    """One of the items, each as likely as the others."""
    return items[int(generator.integers(len(items)))]


def _one(generator: np.random.Generator) -> tuple[tuple[Things, ...], str]:
    return (_things(1, generator),), choice(PLACES, generator)


def _row(generator: np.random.Generator) -> tuple[tuple[Things, ...], str]:
    count = int(generator.integers(2, 5))
    return (_things(count, generator),), choice(("row", "column"), generator)


def _two(generator: np.random.Generator) -> tuple[tuple[Things, ...], str]:
    """Two kinds of things, mostly one of each."""
    first = _things(choice((1, 1, 2, 3), generator), generator)
    second = first
    while (second.colour, second.shape) == (first.colour, first.shape):
        second = _things(choice((1, 1, 2, 3), generator), generator)
    return (first, second), choice(("beside", "above"), generator)


def _things(count: int, generator: np.random.Generator) -> Things:
    size = choice(SIZES, generator) if count == 1 else "middling"
    return Things(count, size, choice(COLOURS, generator), choice(SHAPES, generator))
