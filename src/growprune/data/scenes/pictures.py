"""Scenes drawn: no two pictures of a scene are the same."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from growprune.data.scenes.scene import Scene, Things

Canvas = NDArray[np.float64]
"""Colours `(height, width, 3)`, 0 to 255."""

SIDE = 224
"""Pixels along each side of a picture."""

_OVERSAMPLING = 3
_RADII = {"small": 0.09, "middling": 0.15, "large": 0.21}
"""In sides of the picture."""

_PAINTS = {
    "red": (210, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (250, 225, 45),
    "green": (45, 155, 60),
    "blue": (40, 85, 205),
    "purple": (125, 45, 165),
    "pink": (250, 150, 195),
    "brown": (125, 75, 40),
}
_GROUNDS = {"white": 235, "grey": 140, "black": 30, "striped": 225, "dotted": 225}
_PATTERN = 70
"""How much darker stripes and dots are than what is between them."""

Box = tuple[float, float, float, float]
_BOXES: dict[str, tuple[Box, ...]] = {  # left, top, right, bottom, in sides of the picture
    "left": ((0, 0, 0.56, 1),),
    "right": ((0.44, 0, 1, 1),),
    "top": ((0, 0, 1, 0.56),),
    "bottom": ((0, 0.44, 1, 1),),
    "middle": ((0, 0, 1, 1),),
    "row": ((0, 0, 1, 1),),
    "column": ((0, 0, 1, 1),),
    "beside": ((0, 0, 0.5, 1), (0.5, 0, 1, 1)),
    "above": ((0, 0, 1, 0.5), (0, 0.5, 1, 1)),
}
_UPRIGHT = ("column", "beside")
"""Layouts in which several alike are one above the other."""


def draw(scene: Scene, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a scene `(SIDE, SIDE, 3)`; places, colours, outlines, light and ground vary."""
    canvas = _ground(scene.background, generator)
    for things, box in zip(scene.things, _BOXES[scene.layout], strict=True):
        for centre, radius in _placed(things, box, scene.layout in _UPRIGHT):
            centre = (centre + generator.uniform(-0.03, 0.03, 2)) * SIDE
            radius = radius * generator.uniform(0.9, 1.1) * SIDE
            turn = radius * _turn(generator)
            outlines = [centre + outline @ turn for outline in _outlines(things.shape)]
            _paint(canvas, outlines, things.colour, generator)
    light = 1 + _slope(generator.uniform(-0.12, 0.12, 2))
    grain = generator.normal(0, 3, (SIDE, SIDE, 1))
    return np.clip(canvas * light + grain, 0, 255).astype(np.uint8)


def _ground(background: str, generator: np.random.Generator) -> Canvas:
    """The background with its pattern and a slow, cloudy change of colour."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    level = np.full((SIDE, SIDE), float(_GROUNDS[background]))
    period = generator.uniform(18, 30)
    if background == "striped":
        angle = generator.uniform(0, math.pi)
        along = x * math.cos(angle) + y * math.sin(angle)
        level -= _PATTERN * (along % period < period / 2)
    if background == "dotted":
        shifted = (np.stack([x, y]) + generator.uniform(0, period, (2, 1, 1))) % period
        level -= _PATTERN * (np.hypot(*(shifted - period / 2)) < period / 4)
    return level[..., None] + _clouds(generator)


def _clouds(generator: np.random.Generator) -> Canvas:
    from PIL import Image

    coarse = generator.normal(0, 7, (3, 6, 6)).astype(np.float32)
    layers = [Image.fromarray(layer).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
              for layer in coarse]  # fmt: skip
    return np.stack([np.asarray(layer, np.float64) for layer in layers], axis=-1)


def _placed(things: Things, box: Box, upright: bool) -> Iterator[tuple[Canvas, float]]:
    """Centres `(2,)` and radii of the things in their box, in sides of the picture."""
    low, high = np.array(box[:2]), np.array(box[2:])
    length = (high - low)[int(upright)]
    radius = min(_RADII[things.size], 0.37 * length / things.count)
    for number in range(things.count):
        centre = (low + high) / 2
        centre[int(upright)] = low[int(upright)] + length * (number + 0.5) / things.count
        yield centre, radius


def _outlines(shape: str) -> list[Canvas]:
    """Corners `(corners, 2)` of a shape and its hole: about the origin, radius 1, y downwards."""
    if shape == "ring":
        return [_circle(1), _circle(0.55)]
    return [_outline(shape)]


def _outline(shape: str) -> Canvas:
    if shape == "circle":
        return _circle(1)
    if shape == "cross":
        arm = [(0.33, 1), (0.33, 0.33), (1, 0.33)]
        corner = np.array([*arm, (1, -0.33), (0.33, -0.33), (0.33, -1)])
        return np.concatenate([corner, -corner])
    if shape == "heart":
        t = np.linspace(0, 2 * math.pi, 60)
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 15
    corners, turn = {"square": (4, 0.5), "diamond": (4, 0), "triangle": (3, 0), "star": (10, 0)}[
        shape
    ]
    angles = 2 * math.pi * (np.arange(corners) + turn) / corners
    radii = np.where(np.arange(corners) % 2, 0.45, 1) if shape == "star" else np.ones(corners)
    stretch = (0.72, 1.08) if shape == "diamond" else (1.08, 1.08)
    return radii[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1) * stretch


def _circle(radius: float) -> Canvas:
    t = np.linspace(0, 2 * math.pi, 48)
    return radius * np.stack([np.cos(t), np.sin(t)], axis=1)


def _turn(generator: np.random.Generator) -> Canvas:
    """A matrix that stretches and turns a little, too little to make another shape."""
    angle = math.radians(generator.uniform(-12, 12))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return generator.uniform(0.92, 1.08, (2, 1)) * turn


def _paint(
    canvas: Canvas, outlines: Sequence[Canvas], colour: str, generator: np.random.Generator
) -> None:
    """Fill the first outline, but not the others, with a shaded tone; edges are smooth."""
    from PIL import Image, ImageDraw

    low = np.clip(np.floor(outlines[0].min(axis=0)), 0, SIDE - 1).astype(int)
    width, height = np.clip(np.ceil(outlines[0].max(axis=0)), 1, SIDE).astype(int) - low
    mask = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    for outline, fill in zip(outlines, (255, 0), strict=False):
        corners = (outline - low) * _OVERSAMPLING
        ImageDraw.Draw(mask).polygon([(x, y) for x, y in corners], fill=fill)
    covered = np.asarray(mask.reduce(_OVERSAMPLING), np.float64)[..., None] / 255
    tone = np.array(_PAINTS[colour]) + generator.normal(0, 9, 3)
    shaded = tone * (1 + _slope(generator.uniform(-0.15, 0.15, 2), width, height))
    patch = canvas[low[1] : low[1] + height, low[0] : low[0] + width]
    patch += covered * (shaded - patch)


def _slope(direction: Canvas, width: int = SIDE, height: int = SIDE) -> Canvas:
    """A plane `(height, width, 1)` through 0 in the middle that rises along `direction`."""
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    return (direction[0] * x[None, :] + direction[1] * y[:, None])[..., None]
