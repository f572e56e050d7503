"""What may be said of a scene: a small grammar with paraphrases."""

import numpy as np

from growprune.data.scenes.scene import Scene, Things, choice

_NUMBERS = {2: "two", 3: "three", 4: "four"}
_SIZES = {"small": ("small", "little"), "middling": ("",), "large": ("large", "big")}
_PLURALS = {"cross": "crosses"}
_PLACES = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "middle": ("in the middle", "in the centre"),
    "row": ("in a row", "side by side"),
    "column": ("in a column", "one above the other"),
}
_RELATIONS = {
    "beside": ("to the left of", "on the left of"),
    "above": ("above", "over"),
}
_INVERSES = {
    "beside": ("to the right of", "on the right of"),
    "above": ("below", "under"),
}
_ONE = (
    "{first} {place}",
    "{first} {is_first} {place}",
    "there {is_first} {first} {place}",
    "a picture of {first} {place}",
)
_TWO = (
    "{first} {relation} {second}",
    "{second} {inverse} {first}",
    "{first} {is_first} {relation} {second}",
    "{second} {is_second} {inverse} {first}",
    "there {is_first} {first} {relation} {second}",
    "there {is_second} {second} {inverse} {first}",
)
_BACKGROUNDS = ("", "", " on a {background} background", " on {background} ground")


def captions(scene: Scene, generator: np.random.Generator, count: int = 5) -> list[str]:
    """Write `count` different sentences about a scene, true of it and lower-case."""
    found: dict[str, None] = {}  # a set that keeps its order
    while len(found) < count:
        found[_sentence(scene, generator)] = None
    return list(found)


def _sentence(scene: Scene, generator: np.random.Generator) -> str:
    first, last = scene.things[0], scene.things[-1]
    pattern = choice(_ONE if len(scene.things) == 1 else _TWO, generator)
    pattern += choice(_BACKGROUNDS, generator)
    return pattern.format(
        first=_noun(first, generator),
        second=_noun(last, generator),
        is_first="is" if first.count == 1 else "are",
        is_second="is" if last.count == 1 else "are",
        place=choice(_PLACES.get(scene.layout, ("",)), generator),
        relation=choice(_RELATIONS.get(scene.layout, ("",)), generator),
        inverse=choice(_INVERSES.get(scene.layout, ("",)), generator),
        background=scene.background,
    )


def _noun(things: Things, generator: np.random.Generator) -> str:
    """Such as "a big red star" or "two blue crosses"; half the time without the size."""
    size = choice((*_SIZES[things.size], "", ""), generator)
    words = [word for word in (size, things.colour) if word]
    if things.count == 1:
        article = "an" if words[0][0] in "aeiou" else "a"
        return " ".join((article, *words, things.shape))
    plural = _PLURALS.get(things.shape, f"{things.shape}s")
    return " ".join((_NUMBERS[things.count], *words, plural))
