"""What one core of this machine can do at best: bytes copied and multiply-adds a second."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_MEMORY = "memory"
_BEYOND_CACHES = 256 << 20
_UNITS = {"K": 1 << 10, "M": 1 << 20}


@dataclass(frozen=True)
class Level:
    """A cache, or the memory beyond all caches.

    Attributes:
        name: L1, L2, L3 or memory.
        size: its bytes; None for the memory.
        bytes_per_second: bytes read plus bytes written while copying inside it. Reading alone may
            be faster.
    """

    name: str
    size: int | None
    bytes_per_second: float


@dataclass(frozen=True)
class Limits:
    """Caches from the smallest to the memory, and floating-point operations a second."""

    levels: tuple[Level, ...]
    flops_per_second: float

    def level(self, nbytes: int) -> Level:
        """The smallest one that holds so many bytes."""
        return next(level for level in self.levels if level.size is None or nbytes <= level.size)

    def seconds(self, nbytes: int, flops: float) -> float:
        """The least time for reading so many bytes and for so many operations."""
        moving = nbytes / self.level(nbytes).bytes_per_second
        return max(moving, flops / self.flops_per_second)

    def record(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


def measure_limits() -> Limits:
    """Copy inside each cache and the memory; multiply large matrices. One thread, a few seconds."""
    sizes: dict[str, int | None] = {**_cache_sizes(), _MEMORY: None}
    levels = []
    for name, size in sizes.items():
        nbytes = _BEYOND_CACHES if size is None else size // 4
        levels.append(Level(name, size, _copy_rate(nbytes)))
    return Limits(tuple(levels), _product_rate())


def _cache_sizes() -> dict[str, int]:
    """Bytes of the first core's caches for data, the smallest first."""
    found = {}
    for folder in sorted(_CACHES.glob("index*")):
        files = (folder / name for name in ("type", "level", "size"))
        kind, level, size = (file.read_text(encoding="ascii").strip() for file in files)
        if kind != "Instruction":
            found[f"L{level}"] = int(size[:-1]) * _UNITS[size[-1]]
    return found


def _copy_rate(nbytes: int) -> float:
    """By what more bytes cost, so that the call itself costs nothing."""
    source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
    few = nbytes // 8
    some_source, some_target = source[:few], target[:few]
    whole = _fastest(lambda: np.copyto(target, source))
    part = _fastest(lambda: np.copyto(some_target, some_source))
    return 2 * (nbytes - few) / (whole - part)


def _product_rate() -> float:
    size = 768
    a, b, c = (np.ones((size, size), np.float32) for _ in range(3))
    return 2 * size**3 / _fastest(lambda: np.matmul(a, b, out=c))


def _fastest(call: Callable[[], object], rounds: int = 9, turn: float = 0.01) -> float:
    """Seconds of a call in the best of several rounds: disturbances only ever slow it."""
    repeats, taken = 1, 0.0
    while taken < turn:
        repeats *= 2
        taken = _timed(call, repeats)
    return min(_timed(call, repeats) for _ in range(rounds)) / repeats


def _timed(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start
