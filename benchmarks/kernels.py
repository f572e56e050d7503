"""Time of a product and of a layer's step, in each layout and on each path of this machine.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --width 320 --kept 0.5 --paths avx512 avx2

The layer is an LSTM with as many inputs as units, run through sequences of 100 steps and by single
steps, one sequence at a time. Figures are microseconds, the fastest of many calls, on one thread;
the paths take turns, so that a busy machine slows them alike. `benchmarks/latency.py` compares
with other engines.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # NumPy reads it when it is imported

import argparse
import time
from collections.abc import Callable

import numpy as np
from machine import describe

from growprune import native
from growprune.export.layouts import Weight, store
from growprune.native import paths

Key = tuple[str, str, str]
Call = tuple[int, Callable[[], object]]

STEPS = 100
TURN = 0.002
HEIGHTS = {"dense": 1, "csr": 1, "blocks": native.PANEL}


def main() -> None:
    args = parse_arguments()
    print(describe(threads=1))
    kept = f"{100 * args.kept:.3g}% of the connections kept, but dense: all"
    print(f"LSTM of width {args.width}, {kept}; us")
    print(f"{'path':10}{'layout':8}{'product':>9}{'in 16':>9}{'step':>9}{'in 100':>9}")
    calls = {
        (path, layout, name): call
        for path in args.paths
        for layout in HEIGHTS
        for name, call in prepare(path, layout, args.width, args.kept).items()
    }
    fastest = by_turns(calls, args.rounds)
    for path in args.paths:
        for layout in HEIGHTS:
            figures = (fastest[path, layout, name] for name in ("product", "16", "step", "100"))
            print(f"{path:10}{layout:8}" + "".join(f"{figure:9.2f}" for figure in figures))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--kept", type=float, default=1 / 38.7, help="fraction of the connections")
    parser.add_argument("--paths", nargs="+", default=paths.available())
    parser.add_argument("--rounds", type=int, default=40)
    return parser.parse_args()


def prepare(path: str, layout: str, width: int, kept: float) -> dict[str, Call]:
    """What to time: how many products or steps a call makes, and the call."""
    paths.chosen = lambda: paths.load(path)  # as if it had been chosen
    rng = np.random.default_rng(0)
    ih, hh = (draw(rng, layout, width, 1.0 if layout == "dense" else kept) for _ in range(2))
    layer = native.Recurrent("lstm", ih, hh, np.zeros(4 * width, np.float32))
    x = rng.standard_normal((1, STEPS, width)).astype(np.float32)
    h, c = rng.standard_normal((2, 1, width)).astype(np.float32)
    return {
        "product": (1, lambda: native.product(hh, x[0, :1])),
        "16": (16, lambda: native.product(hh, x[0, :16])),
        "step": (1, lambda: layer.step(x[:, 0], h, c)),
        "100": (STEPS, lambda: layer.run(x)),
    }


def draw(rng: np.random.Generator, layout: str, width: int, kept: float) -> native.Matrix:
    """Random weights of the four gates; in blocks for the layout "blocks"."""
    height = HEIGHTS[layout]
    tiles = rng.random((-(-4 * width // height), width)) < kept
    active = tiles.repeat(height, axis=0)[: 4 * width]
    values = (0.05 * active * rng.standard_normal(active.shape)).astype(np.float32)
    return store("weight", Weight(values, active), layout)[0].prepare()


def by_turns(calls: dict[Key, Call], rounds: int) -> dict[Key, float]:
    """The least microseconds of each product or step."""
    fastest = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for key, (count, call) in calls.items():
            # Long enough for the caches to hold what the call reads, as in steady use.
            repeats = 1 + int(TURN / seconds(call, 1))
            fastest[key] = min(fastest[key], 1e6 * seconds(call, repeats) / repeats / count)
    return fastest


def seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
