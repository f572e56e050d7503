"""Packed models: read from one file, checked once, run on NumPy arrays without torch."""

from growprune.runtime.matrices import MatrixInfo, StoredMatrix
from growprune.runtime.model import Model, Stream, build, load
from growprune.runtime.packed_file import PackedModel, write

__all__ = [
    "MatrixInfo",
    "Model",
    "PackedModel",
    "StoredMatrix",
    "Stream",
    "build",
    "load",
    "write",
]
