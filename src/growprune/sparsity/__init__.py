"""Grow and prune the connections of any torch model while it trains.

One idea throughout: a score ranks connections, a granularity groups them, an exact count of them
is selected, and the choice is applied to the masks.
"""

from growprune.sparsity.grow_prune import GrowPrune
from growprune.sparsity.parameters import choose_parameters
from growprune.sparsity.plan import Grow, Override, Plan, Prune, Rewire, Shift
from growprune.sparsity.selection import select

__all__ = [
    "Grow",
    "GrowPrune",
    "Override",
    "Plan",
    "Prune",
    "Rewire",
    "Shift",
    "choose_parameters",
    "select",
]
