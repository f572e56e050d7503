"""What training takes from the compiled kernels, and how it learns which connections are active.

Whoever prunes a weight notes its active connections (`note_active`), and whoever computes with the
weight asks for them (`active_of`). A note holds for the weight as it is: it says nothing any more
once the weight has been written to by anyone else, so it can never be wrong, only unused.
"""

import os
from functools import cached_property
from typing import Any

import numpy as np

from growprune.errors import GrowPruneError
from growprune.native.paths import chosen, kernel

FORCE = "GROWPRUNE_TRAINING"
ENGINES = ("native", "torch")
_NOTE = "_growprune_active"


class ActiveConnections:
    """Which connections of a weight matrix are active.

    Args:
        mask: bool, (rows, columns).
        all_gradients: the gradients of dormant connections are wanted, too.

    Attributes:
        density: the share that is active.
        all_gradients: as given.
        version: of the weight that this was noted of.
    """

    def __init__(self, mask: np.ndarray, all_gradients: bool) -> None:
        self._mask = mask
        self.density = float(mask.mean()) if mask.size else 0.0
        self.all_gradients = all_gradients
        self.version = -1

    @cached_property
    def indices(self) -> Any:
        """The kernels' form of the mask, made when it is first needed."""
        import growprune.native._kernels as kernels

        return kernels.Connections(np.ascontiguousarray(self._mask).view(np.uint8))

    def __reduce__(self) -> tuple[Any, ...]:
        # A file of the weight holds an empty set in the note's place: that can be read anywhere,
        # also with `weights_only=True`.
        return set, ()


def note_active(weight: Any, active: ActiveConnections | None) -> None:
    """Note the active connections of a tensor whose others are zero now; None: nothing is known."""
    if active is not None:
        active.version = weight._version
    setattr(weight, _NOTE, active)


def active_of(weight: Any) -> ActiveConnections | None:
    """What was noted of a tensor, if it has not been changed since."""
    active = getattr(weight, _NOTE, None)
    if isinstance(active, ActiveConnections) and active.version == weight._version:
        return active
    return None


def training_engine() -> str:
    """What trains recurrent layers on the CPU: "native" kernels, or "torch" in their place.

    The environment variable GROWPRUNE_TRAINING forces one.
    """
    return _engine


def training_kernels() -> Any:
    """The compiled kernels' module and the path in it that runs."""
    import growprune.native._kernels as kernels

    return kernels, chosen()


def _choose(forced: str, path: str) -> str:
    if forced and forced not in ENGINES:
        raise GrowPruneError(f"{FORCE} is {forced!r}; set it to one of: {', '.join(ENGINES)}")
    if forced == "native" and path == "numpy":
        raise GrowPruneError(
            f"{FORCE} is 'native', but the kernels run on NumPy here; install growprune where a "
            "C++17 compiler is found, or leave it out"
        )
    return forced or ("torch" if path == "numpy" else "native")


_engine = _choose(os.environ.get(FORCE, ""), kernel())
