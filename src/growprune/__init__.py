"""Train LSTMs that are small, fast and accurate by growing and pruning their connections."""

from typing import TYPE_CHECKING

from growprune.lazy import lazy

if TYPE_CHECKING:
    from growprune.nn import HLSTM, HLSTMCell
    from growprune.sparsity import GrowPrune, Plan

__version__ = "0.1.0"
__all__ = ["HLSTM", "GrowPrune", "HLSTMCell", "Plan"]

# What needs no torch loads none.
__getattr__, __dir__ = lazy(__name__, {"nn": "HLSTM HLSTMCell", "sparsity": "GrowPrune Plan"})
