"""The compiled kernels (csrc/)."""

import numpy as np

from growprune.native.paths import Path

def available() -> list[str]:
    """Paths that were compiled and that this processor runs, fastest first."""

def load(name: str) -> Path:
    """The kernels of one path."""

class Connections:
    """Which connections of a matrix are active."""

    def __init__(self, mask: np.ndarray) -> None: ...
