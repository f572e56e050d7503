"""Fit the cost model of `growprune.export`: nanoseconds a product spends on each of its parts.

    python benchmarks/layout_costs.py

Times products with one vector over sizes and densities, in all layouts, and fits the formulas of
`growprune.export.layouts.microseconds` by least squares of relative errors.
"""

import itertools
import time

import numpy as np
from machine import describe

from growprune import native
from growprune.export.layouts import LAYOUTS, Weight, store

ROWS, COLUMNS = (64, 256, 1024, 2048), (64, 256, 512, 1024)
WIDTHS = {"dense": 1, "csr": 1, "blocks": native.PANEL}
DENSITIES = (0.01, 0.026, 0.1, 0.5, 1.0)


def main() -> None:
    print(describe(threads=1), f"kernel {native.kernel()}")
    rng = np.random.default_rng(0)
    parts: dict[str, list[list[float]]] = {layout: [] for layout in LAYOUTS}
    times: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
    for rows, columns, density, height in itertools.product(ROWS, COLUMNS, DENSITIES, (1, 16)):
        tiles = rng.random((rows // height, columns)) < density
        active = tiles.repeat(height, axis=0)
        weight = Weight(active * rng.standard_normal(active.shape).astype(np.float32), active)
        for layout in LAYOUTS:
            stored, _ = store("w", weight, layout)
            parts[layout].append([len(stored.arrays["values"].reshape(-1, WIDTHS[layout])), 1.0])
            times[layout].append(nanoseconds(stored.prepare(), columns, rng))
    for layout in LAYOUTS:
        a, t = np.array(parts[layout]), np.array(times[layout])
        found, *_ = np.linalg.lstsq(a / t[:, None], np.ones(len(t)), rcond=None)
        error = np.median(np.abs(a @ found / t - 1))
        print(f"{layout}: {found[0]:.3f} ns each, {found[1]:.0f} ns a call, off by {error:.0%}")


def nanoseconds(matrix: native.Matrix, columns: int, rng: np.random.Generator) -> float:
    """The fastest of many products with one vector."""
    x = rng.standard_normal((1, columns)).astype(np.float32)
    calls = 20
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(calls):
            native.product(matrix, x)
        best = min(best, time.perf_counter() - start)
    return best / calls * 1e9


if __name__ == "__main__":
    main()
