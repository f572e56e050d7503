"""The compiled kernels (csrc/)."""

from growprune.native.paths import Path

def available() -> list[str]:
    """Paths that were compiled and that this processor runs, fastest first."""

def load(name: str) -> Path:
    """The kernels of one path."""
