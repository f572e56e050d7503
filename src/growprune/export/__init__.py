"""From torch to packed files: the only place that knows both sides."""

from growprune.export.builder import Builder, Packed
from growprune.export.layouts import Choice
from growprune.export.packing import pack
from growprune.export.parameters import Parameters

__all__ = ["Builder", "Choice", "Packed", "Parameters", "pack"]
