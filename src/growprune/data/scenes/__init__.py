"""A small corpus of drawn scenes with composed sentences, to learn captioning from."""

from growprune.data.scenes.captions import captions
from growprune.data.scenes.corpus import make_scenes
from growprune.data.scenes.pictures import draw
from growprune.data.scenes.scene import Scene, Things, scenes

__all__ = ["Scene", "Things", "captions", "draw", "make_scenes", "scenes"]
