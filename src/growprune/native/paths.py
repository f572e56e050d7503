"""Which implementation of the kernels runs: chosen once, when this module is imported."""

import os
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from growprune.errors import GrowPruneError
from growprune.native import reference

FORCE = "GROWPRUNE_KERNEL"


class Path(Protocol):
    """What `growprune.native` asks of an implementation.

    Arguments have been checked: arrays are contiguous, of the right type and of shapes that fit.
    Only a layer's `step` checks for itself and raises a TypeError or ValueError. Results are
    written into arrays given for them. `growprune.native.reference` says in NumPy what each
    function computes.
    """

    Recurrent: Any

    def dense(self, values: np.ndarray, scales: np.ndarray | None) -> Any:
        """Prepare a matrix given whole."""

    def csr(
        self,
        starts: np.ndarray,
        columns: np.ndarray,
        values: np.ndarray,
        shape: tuple[int, int],
        scales: np.ndarray | None,
    ) -> Any:
        """Prepare a matrix given as compressed sparse rows."""

    def blocks(
        self,
        starts: np.ndarray,
        panels: np.ndarray,
        values: np.ndarray,
        shape: tuple[int, int],
        scales: np.ndarray | None,
    ) -> Any:
        """Prepare a matrix given as 16x1 blocks by column."""

    def product(self, matrix: Any, x: np.ndarray, y: np.ndarray) -> None:
        """Write x @ matrix.T to y."""

    def sigmoid(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write the logistic function of x to y."""

    def tanh(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write the hyperbolic tangent of x to y."""

    def leaky_relu(self, x: np.ndarray, slope: float, y: np.ndarray) -> None:
        """Write x, times the slope where negative, to y."""

    def layer_norm(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, y: np.ndarray
    ) -> None:
        """Write the normalised rows of x to y."""

    def log_softmax(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write the logarithms of each row's softmax to y."""


def kernel() -> str:
    """Name the path that runs: "avx512", "avx2", "neon", "baseline" or "numpy"."""
    return _name


@cache
def chosen() -> Path:
    """The implementation that runs; warns once where it is NumPy for want of another."""
    if not os.environ.get(FORCE) and _name == "numpy":
        warnings.warn(
            "growprune was installed without its compiled kernels and runs on NumPy, many times "
            "slower; install it again where a C++17 compiler is found, or set "
            f"{FORCE}=numpy to accept this",
            RuntimeWarning,
            stacklevel=3,
        )
    return load(_name)


def available() -> list[str]:
    """Paths that run on this machine, fastest first; "numpy" is always the last."""
    return [*_compiled(), "numpy"]


def load(name: str) -> Path:
    """The implementation of a path that is `available()`."""
    if name == "numpy":
        return reference
    import growprune.native._kernels as kernels

    return kernels.load(name)


def _choose(forced: str, names: Sequence[str]) -> str:
    """The path to run, of those available; `forced` is empty for the fastest."""
    if forced and forced not in names:
        raise GrowPruneError(
            f"{FORCE} is {forced!r}, which cannot run here; set it to one of: {', '.join(names)}"
        )
    return forced or names[0]


def _compiled() -> list[str]:
    try:
        import growprune.native._kernels as kernels
    except ModuleNotFoundError:
        return []
    return kernels.available()


_name = _choose(os.environ.get(FORCE, ""), available())
