"""Growth, pruning and rewiring of a set of competing tiles: score, select, apply.

Every function takes flat tensors `(tiles,)` and returns the new active set; weights are not
touched here.
"""

from torch import Tensor

from growprune.sparsity.selection import select


def grown(active: Tensor, scores: Tensor, count: int) -> Tensor:
    """Activate the `count` dormant tiles with the highest scores."""
    return active | select(scores, ~active, count)


def pruned(active: Tensor, scores: Tensor, count: int) -> Tensor:
    """Deactivate the `count` active tiles with the lowest scores."""
    return active & ~select(-scores, active, count)


def regrown(active: Tensor, before: Tensor, scores: Tensor) -> Tensor:
    """Grow as many tiles as were pruned since `before`, others than those as long as there are any.

    Args:
        active: the tiles left by pruning.
        before: the tiles active before it.
        scores: of the tiles, highest grown first.
    """
    count = int(before.sum()) - int(active.sum())
    fresh = min(count, int((~before).sum()))
    chosen = select(scores, ~before, fresh) | select(scores, before & ~active, count - fresh)
    return active | chosen
