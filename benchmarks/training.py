"""Time of a whole training step (forward, backward, optimizer) of recurrent layers, by density.

    python benchmarks/training.py --threads 2 --out results/training
    python benchmarks/training.py --width 512 --batch 16 --time 150 --repeats 5 --only "blocks*"

All variants of a shape run interleaved in one process, so that a busy machine slows them alike;
figures are medians. "of nn.LSTM" compares rates, for nn.LSTM has fewer weights: FLOPs are three
times two per weight, sequence and step, counted for all connections, active or not. "faster" is
the dense HLSTM's time over the variant's. Masked variants are grown-and-pruned layers: "sparse" on
our kernels, with single connections or in "blocks" of 16, "masked dense" through torch, as other
tools do. "growing" gathers the gradients of dormant connections at every step, or at every fourth;
then the mean of four is told. "bfloat16" is under autocast, which rounds what is multiplied.
Memory is what a layer keeps between its forward and its backward pass. Other shapes that OUT holds
already stay, so that a disturbed one can be taken anew.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hlstm_step import PlainLoop
from machine import describe, medians, write_figures
from tables import by_shape
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from growprune.files import write_text
from growprune.native import training
from growprune.nn import HLSTM
from growprune.sparsity import GrowPrune, Plan

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.026)
BASES = ("nn.LSTM", "HLSTM")  # that the others are compared with
COLUMNS = ("variant", "ms/step", "GFLOP/s", "of nn.LSTM", "faster", "kept, MB")


@dataclass
class Variant:
    """A layer to train: how it is called, by what it is stepped, on which engine, in rounds."""

    name: str
    layer: nn.Module
    call: Callable[[Tensor], Tensor]
    step: Callable[[], None]
    engine: str = "native"
    autocast: bool = False
    steps: int = 1

    def seconds(self, x: Tensor) -> float:
        """Take a round of training steps, of which the mean is told."""
        return statistics.fmean(self._step(x) for _ in range(self.steps))

    def _step(self, x: Tensor) -> float:
        training._engine = self.engine
        x = x.detach().requires_grad_()
        self.layer.zero_grad()
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            outputs = self.call(x)
        outputs.sum().backward()
        self.step()
        return time.perf_counter() - start

    def kept_bytes(self, x: Tensor) -> int:
        """Bytes kept for the backward pass, without the weights."""
        training._engine = self.engine
        own = {p.data_ptr() for p in self.layer.parameters()}
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in own:
                kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=self.autocast),
        ):
            self.call(x.detach().requires_grad_())
        return sum(kept.values())


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(describe(args.threads))
    found = args.out / "training.json" if args.out else None
    rows = json.loads(found.read_text())["rows"] if found and found.exists() else []
    for width, batch, steps in itertools.product(args.width, args.batch, args.time):
        rows = [row for row in rows if shape(row) != (width, batch, steps)]
        rows = sorted(rows + measure(width, batch, steps, args), key=shape)
        if args.out:  # after each shape, for all of them take a quarter of an hour
            write_figures(args.out / "training.json", args.threads, rows)
            write_text(args.out / "training.md", report(rows, args.threads))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7, help="steps timed per variant")
    parser.add_argument("--width", type=int, nargs="+", default=[256, 512, 800])
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--time", type=int, nargs="+", default=[20, 150])
    parser.add_argument("--density", type=float, nargs="+", default=list(DENSITIES))
    parser.add_argument(
        "--slow", action="store_true", help="the plain loop and ragged batches, too"
    )
    parser.add_argument(
        "--only", nargs="+", default=["*"], help="variants of such names, as in 'blocks*'"
    )
    parser.add_argument("--out", type=Path, help="folder for the figures and a table of them")
    return parser.parse_args()


def shape(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["width"], row["batch"], row["time"]


def measure(width: int, batch: int, steps: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every variant at one shape, print the rows and return them."""
    x = torch.randn(steps, batch, width)
    found = [v for v in variants(width, steps, batch, args) if v.name in BASES or wanted(v, args)]
    seconds = medians({v.name: partial(v.seconds, x) for v in found}, args.repeats)
    rates = {v.name: flops(v.layer, steps * batch) / seconds[v.name] / 1e9 for v in found}
    print(f"\ntime {steps}, batch {batch}, width {width}\n{'':28}" + "  ".join(COLUMNS[1:]))
    rows = []
    for variant in found:
        row = {
            "width": width,
            "batch": batch,
            "time": steps,
            "variant": variant.name,
            "seconds": seconds[variant.name],
            "gflops": rates[variant.name],
            "of_lstm": rates[variant.name] / rates["nn.LSTM"],
            "faster": seconds["HLSTM"] / seconds[variant.name],
            "kept_bytes": variant.kept_bytes(x),
        }
        rows.append(row)
        print(f"{variant.name:28}" + "  ".join(cells(row)[1:]), flush=True)
    return rows


def wanted(variant: Variant, args: argparse.Namespace) -> bool:
    return any(fnmatchcase(variant.name, pattern) for pattern in args.only)


def variants(width: int, steps: int, batch: int, args: argparse.Namespace) -> Iterator[Variant]:
    """What is compared at a shape."""
    lstm = nn.LSTM(width, width)
    yield Variant("nn.LSTM", lstm, lambda x: lstm(x)[0], optimizer(lstm).step)
    rounded = nn.LSTM(width, width)
    step = optimizer(rounded).step
    yield Variant("nn.LSTM, bfloat16", rounded, lambda x: rounded(x)[0], step, autocast=True)
    yield dense("HLSTM", width, "native")
    yield replace(dense("HLSTM, bfloat16", width, "native"), autocast=True)
    yield dense("HLSTM in torch", width, "torch")
    if args.slow:
        layer = HLSTM(width, width, gate_hidden_sizes=(width,))
        plain = PlainLoop(layer)
        yield Variant("plain loop", layer, plain, optimizer(layer).step)
        yield from ragged(width, steps, batch)
    for density in args.density:
        yield masked(f"sparse {density:g}", width, density, "native")
    for density in args.density:
        yield masked(f"blocks {density:g}", width, density, "native", "block")
    yield masked("masked dense 0.1", width, 0.1, "torch")
    yield growing("growing from 0.1", width, 0.1)
    yield replace(growing("growing, every 4th", width, 0.1, gather_every=4), steps=4)
    blocks = growing("growing in blocks, every 4th", width, 0.1, 4, "block")
    yield replace(blocks, steps=4)
    yield replace(growing("growing, bfloat16", width, 0.1), autocast=True)


def dense(name: str, width: int, engine: str) -> Variant:
    layer = HLSTM(width, width, gate_hidden_sizes=(width,))
    return Variant(name, layer, lambda x: layer(x)[0], optimizer(layer).step, engine)


def masked(
    name: str, width: int, density: float, engine: str, granularity: str = "weight"
) -> Variant:
    layer = HLSTM(width, width, gate_hidden_sizes=(width,))
    plan = Plan(seed_density=density, granularity=granularity)
    grow_prune = GrowPrune(layer, optimizer(layer), plan)
    return Variant(name, layer, lambda x: layer(x)[0], grow_prune.step, engine)


def growing(
    name: str, width: int, density: float, gather_every: int = 1, granularity: str = "weight"
) -> Variant:
    """A layer in its growth phase: gradients of dormant connections are gathered, too."""
    layer = HLSTM(width, width, gate_hidden_sizes=(width,))
    grow = {"epochs": 1, "interval": 50, "fraction": 0.001, "gather_every": gather_every}
    plan = Plan(seed_density=density, granularity=granularity, grow=grow)
    return Variant(
        name, layer, lambda x: layer(x)[0], GrowPrune(layer, optimizer(layer), plan).step
    )


def ragged(width: int, steps: int, batch: int) -> Iterator[Variant]:
    """Both LSTMs on the same sequences of half the steps to all of them."""
    lengths = torch.linspace(steps, max(1, steps // 2), batch).long()
    lstm, layer = nn.LSTM(width, width), HLSTM(width, width)

    def packed(x: Tensor) -> Tensor:
        return lstm(pack_padded_sequence(x, lengths))[0].data

    yield Variant("nn.LSTM, packed", lstm, packed, optimizer(lstm).step)
    yield Variant(
        "HLSTM (), lengths",
        layer,
        lambda x: layer(x, lengths=lengths)[0],
        optimizer(layer).step,
    )


def optimizer(layer: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(layer.parameters(), 1e-4, fused=True)


def flops(layer: nn.Module, positions: int) -> float:
    """Of a training step: the forward pass once, the backward pass twice."""
    weights = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    return 3 * 2 * weights * positions


def cells(row: dict[str, Any]) -> list[str]:
    return [
        row["variant"],
        f"{1e3 * row['seconds']:.1f}",
        f"{row['gflops']:.0f}",
        f"{row['of_lstm']:.2f}",
        f"{row['faster']:.2f}",
        f"{row['kept_bytes'] / 1e6:.1f}",
    ]


def report(rows: list[dict[str, Any]], threads: int) -> str:
    """A table for each shape, as Markdown."""
    title, _, notes = (" ".join(part.split()) for part in __doc__.strip().split("\n\n"))
    lines = ["# Time of a training step", "", f"{describe(threads)}. {title} {notes}"]
    return "\n".join(lines) + "\n\n" + by_shape(rows, COLUMNS, cells)


if __name__ == "__main__":
    main()
