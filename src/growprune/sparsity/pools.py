"""Pools: the tiles that compete with one another, and how many of them there should be."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from growprune.sparsity.distributed import first_rank_mask
from growprune.sparsity.masks import MaskedMatrix
from growprune.sparsity.plan import Override, Plan
from growprune.sparsity.selection import apportion, geometric_step, share


class Pool:
    """Matrices whose tiles compete: one matrix, or all that share the plan's densities.

    Args:
        matrices: the members; a pool's flat tensors hold their tiles one after the other.
        plan: the densities.
        override: replaces some of them for these members.
    """

    def __init__(
        self, matrices: Sequence[MaskedMatrix], plan: Plan, override: Override | None
    ) -> None:
        self.matrices = list(matrices)
        self._plan = plan
        self._override = override

    @property
    def active(self) -> Tensor:
        """Bool `(tiles,)`."""
        return torch.cat([matrix.active.flatten() for matrix in self.matrices])

    def join(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The members' score grids, given by name, as one `(tiles,)`."""
        return torch.cat([scores[matrix.name].flatten() for matrix in self.matrices])

    def activate(self, active: Tensor) -> None:
        """Make exactly these tiles active, as rank 0 has them."""
        sizes = [matrix.active.numel() for matrix in self.matrices]
        parts = first_rank_mask(active).split(sizes)
        for matrix, part in zip(self.matrices, parts, strict=True):
            matrix.activate(part.reshape(matrix.active.shape))

    def growth(self, fraction: float, max_density: float | None) -> int:
        """How many tiles a growth of `fraction` of all activates, at most up to `max_density`."""
        if self._override is not None and self._override.max_density is not None:
            max_density = self._override.max_density
        active = self.active
        limit = len(active) if max_density is None else share(max_density, len(active))
        return max(0, min(share(fraction, len(active)), limit - int(active.sum())))

    def cut(self, rounds_left: int) -> int:
        """How many tiles the next of `rounds_left` pruning rounds takes away."""
        fraction, final_density = self._schedule()
        active = self.active
        count = int(active.sum())
        if final_density is None:
            return share(fraction, count)
        return count - geometric_step(count, share(final_density, len(active)), rounds_left)

    def _schedule(self) -> tuple[float, float | None]:
        """Fraction and final density of pruning; the second counts if there is one."""
        override, prune = self._override, self._plan.prune
        if override is not None and override.final_density is not None:
            return 0.0, override.final_density
        if override is not None and override.prune_fraction is not None:
            return override.prune_fraction, None
        return (prune.fraction or 0.0, prune.final_density) if prune else (0.0, None)


def make_pools(matrices: Sequence[MaskedMatrix], plan: Plan) -> list[Pool]:
    """One pool per matrix, or across the model one per override and one for the others."""
    pools = []
    for override, members in _by_override(matrices, plan):
        groups = [members] if plan.scope == "model" else [[member] for member in members]
        pools += [Pool(group, plan, override) for group in groups]
    return pools


def seed_counts(matrices: Sequence[MaskedMatrix], plan: Plan) -> dict[str, int]:
    """How many tiles of each matrix are active at the start.

    Together they are exactly the seed density of all tiles; the matrices of an override, theirs.
    """
    counts: dict[str, int] = {}
    for override, members in _by_override(matrices, plan):
        density = plan.seed_density
        if override is not None and override.seed_density is not None:
            density = override.seed_density
        tiles = [member.active.numel() for member in members]
        weights = [_seed_weight(member, plan.distribution) for member in members]
        split = apportion(share(density, sum(tiles)), weights, tiles)
        counts |= dict(zip([member.name for member in members], split, strict=True))
    return counts


def _by_override(
    matrices: Sequence[MaskedMatrix], plan: Plan
) -> list[tuple[Override | None, list[MaskedMatrix]]]:
    """The matrices under the first override that names them, or under None; order is kept."""
    groups: dict[int, list[MaskedMatrix]] = {}
    for matrix in matrices:
        names = [fnmatchcase(matrix.name, override.pattern) for override in plan.overrides]
        groups.setdefault(names.index(True) if any(names) else -1, []).append(matrix)
    return [(plan.overrides[i] if i >= 0 else None, members) for i, members in groups.items()]


def _seed_weight(matrix: MaskedMatrix, distribution: str) -> float:
    tiles = float(matrix.active.numel())
    if distribution == "uniform":
        return tiles
    rows, columns = matrix.tiling.rows, matrix.tiling.columns
    return tiles * (rows + columns) / (rows * columns)
