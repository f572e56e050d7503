"""Select: an exact count of the best, and exact shares of a total."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def select(scores: Tensor, eligible: Tensor, count: int) -> Tensor:
    """Choose the `count` eligible entries with the highest scores; ties go to the lowest index.

    Args:
        scores: `(n,)`, no NaN where eligible.
        eligible: bool `(n,)`, the entries that may be chosen.
        count: how many; at most as many as are eligible.

    Returns:
        bool `(n,)` with exactly `count` entries set.
    """
    candidates = eligible.nonzero().squeeze(1)
    if not 0 <= count <= len(candidates):
        raise ValueError(f"count={count} of {len(candidates)} eligible entries; lower it")
    chosen = torch.zeros_like(eligible)
    if count == 0:
        return chosen
    values = scores[candidates]
    # Linear in n where a sort is not: the count-th best value splits the rest into sure and tied.
    threshold = torch.kthvalue(values, len(values) - count + 1).values
    above = values > threshold
    tied = (values == threshold).nonzero().squeeze(1)[: count - int(above.sum())]
    chosen[candidates[above]] = True
    chosen[candidates[tied]] = True
    return chosen


def share(fraction: float, total: int) -> int:
    """`fraction` of `total` to the nearest whole number, halves upwards."""
    return min(total, math.floor(fraction * total + 0.5))


def geometric_step(active: int, final: int, rounds_left: int) -> int:
    """How many stay active after the next of `rounds_left` rounds that end exactly at `final`.

    Every round keeps the same ratio of what is active. Never more than `active`.
    """
    if rounds_left <= 1 or active <= final:
        return min(active, final)
    ratio = (final / active) ** (1 / rounds_left)
    return share(ratio, active)


def apportion(total: int, weights: Sequence[float], capacities: Sequence[int]) -> list[int]:
    """Split `total` in proportion to `weights`, none above its capacity, adding up exactly.

    What a full entry cannot take goes to the others in proportion. Fractions are settled by
    largest remainder, ties to the lowest index.

    Args:
        total: at most the sum of the capacities.
        weights: positive, one per entry.
        capacities: the most each entry can take.
    """
    shares = _capped_shares(total, weights, capacities)
    counts = [min(math.floor(exact), room) for exact, room in zip(shares, capacities, strict=True)]
    by_remainder = sorted(range(len(counts)), key=lambda i: counts[i] - shares[i])
    while (missing := total - sum(counts)) > 0:
        for i in [i for i in by_remainder if counts[i] < capacities[i]][:missing]:
            counts[i] += 1
    return counts


def _capped_shares(total: int, weights: Sequence[float], capacities: Sequence[int]) -> list[float]:
    shares = [0.0] * len(weights)
    free = set(range(len(weights)))
    left: float = total
    while free:
        scale = left / sum(weights[i] for i in free)
        full = {i for i in free if weights[i] * scale >= capacities[i]}
        for i in full or free:
            shares[i] = float(capacities[i]) if full else weights[i] * scale
        left -= sum(capacities[i] for i in full)
        free = free - full if full else set()
    return shares
