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
from growprune.native.reference import PANEL

FORCE = "GROWPRUNE_TRAINING"
ENGINES = ("native", "torch")
FORCE_PRODUCTS = "GROWPRUNE_TRAINING_PRODUCTS"
PRODUCTS = ("float32", "bfloat16")
_NOTE = "_growprune_active"


class ActiveConnections:
    """Which connections of a weight matrix are active.

    Args:
        mask: bool, (rows, columns).
        all_gradients: the gradients of dormant connections are wanted, too.

    Attributes:
        count: how many are active.
        density: the share that is active.
        all_gradients: as given; whoever notes a weight again may change it.
        version: of the weight that this was noted of.
    """

    def __init__(self, mask: np.ndarray, all_gradients: bool) -> None:
        self._mask = mask
        self.count = int(np.count_nonzero(mask))
        self.density = self.count / max(1, mask.size)
        self.all_gradients = all_gradients
        self.version = -1
        self._gradient: Any = None

    @cached_property
    def in_blocks(self) -> bool:
        """Whether they lie in blocks of 16 rows, counted from the first, by one column."""
        whole = len(self._mask) // PANEL * PANEL
        panels = self._mask[:whole].reshape(-1, PANEL, self._mask.shape[1])
        last = self._mask[whole:]
        return bool((panels == panels[:, :1]).all() and (last == last[:1]).all())

    @cached_property
    def indices(self) -> Any:
        """The kernels' form of the mask, made when it is first needed."""
        import growprune.native._kernels as kernels

        return kernels.Connections(np.ascontiguousarray(self._mask).view(np.uint8))

    def note_gradient(self, gradient: Any, vector: Any) -> None:
        """Note a gradient that is zero where dormant, and the vector of its active elements."""
        # Another view of its memory and its version: nothing else comes to lie there meanwhile.
        self._gradient = gradient.detach(), gradient._version, vector

    def active_elements(self, gradient: Any) -> Any:
        """The vector if this is the gradient that was noted last, not changed since; or None."""
        if self._gradient is None:
            return None
        noted, version, vector = self._gradient
        is_same = noted.data_ptr() == gradient.data_ptr() and noted.shape == gradient.shape
        return vector if is_same and noted._version == version else None

    def forget_gradient(self) -> None:
        """Let the memory of the gradient noted last go with the gradient."""
        self._gradient = None

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


def dropout_kept(rows: int, width: int, keep: float, seed: int) -> np.ndarray:
    """What dropout keeps of a hidden layer, each value with probability `keep`.

    Each is drawn from a hash of the seed and of its own number, so that any part of them can be
    drawn by itself, a vector at a time. The multipliers and shifts are those of "lowbias32"
    (Wellons, https://nullprogram.com/blog/2018/07/31/).

    Args:
        rows: how many sequences and steps.
        width: of the layer.
        keep: above 0; its first 24 binary places count.
        seed: from 0 to 2^64 - 1.

    Returns:
        Bool, (rows, width).
    """
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    numbers = np.arange(rows * width, dtype=np.uint64).astype(np.uint32) + low
    bits = (numbers ^ (numbers >> np.uint32(16))) * np.uint32(0x7FEB352D) ^ high
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    bits = bits ^ (bits >> np.uint32(16))
    limit = np.uint32(np.float32(keep) * np.float32(2**24))
    return ((bits >> np.uint32(8)) < limit).reshape(rows, width)


def training_engine() -> str:
    """What trains recurrent layers on the CPU: "native" kernels, or "torch" in their place.

    The environment variable GROWPRUNE_TRAINING forces one.
    """
    return _engine


def forced_engine() -> str:
    """What GROWPRUNE_TRAINING forces; empty where it leaves the choice."""
    return _forced


def training_products() -> str:
    """What the native passes are told to multiply dense matrices in: "float32" or "bfloat16".

    The environment variable GROWPRUNE_TRAINING_PRODUCTS says it; empty where it does not, and
    autocast decides.
    """
    return _products


def rounds() -> bool:
    """Whether the kernels can multiply in bfloat16: on the path avx512, with AVX512_BF16."""
    return bool(getattr(chosen(), "rounds", False))


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


def _choose_products(forced: str, can_round: bool) -> str:
    if forced and forced not in PRODUCTS:
        raise GrowPruneError(
            f"{FORCE_PRODUCTS} is {forced!r}; set it to one of: {', '.join(PRODUCTS)}"
        )
    if forced == "bfloat16" and not can_round:
        raise GrowPruneError(
            f"{FORCE_PRODUCTS} is 'bfloat16', but that takes a processor with AVX512_BF16 and the "
            f"kernels for it, and here they run on {kernel()!r}; leave it out"
        )
    return forced


_forced = os.environ.get(FORCE, "")
_engine = _choose(_forced, kernel())
_products = os.environ.get(FORCE_PRODUCTS, "")
if _products:
    _products = _choose_products(_products, rounds())
