"""Train LSTMs that are small, fast and accurate by growing and pruning their connections."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from growprune.nn import HLSTM, HLSTMCell
    from growprune.sparsity import GrowPrune, Plan

__version__ = "0.1.0"
__all__ = ["HLSTM", "GrowPrune", "HLSTMCell", "Plan"]

_ROOMS = {
    "HLSTM": "growprune.nn",
    "HLSTMCell": "growprune.nn",
    "GrowPrune": "growprune.sparsity",
    "Plan": "growprune.sparsity",
}


def __getattr__(name: str) -> Any:
    """Import a top-level name when it is first used: what needs no torch loads none."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'growprune' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_ROOMS]
