"""Time of a training step (forward and backward) of recurrent layers on a CUDA device.

    python benchmarks/gpu.py --out results/gpu

`growprune.nn.HLSTM`, gates of one hidden layer as wide as the state, against `torch.nn.LSTM`, which
cuDNN runs, and against itself step by step through torch. Both multiply in TF32 (float32 rounded to
10 binary places) or, under autocast, in bfloat16. "of nn.LSTM" compares rates in the same type, for
nn.LSTM has two thirds of the weights: FLOPs are three times two per weight, sequence and step.
Figures are medians of runs by turns, timed by the device's own events.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import medians
from tables import by_shape
from torch import Tensor, nn

from growprune.files import write_text
from growprune.native import training
from growprune.nn import HLSTM
from growprune.training.record import provenance

COLUMNS = ("variant", "ms/step", "TFLOP/s", "of nn.LSTM")


@dataclass
class Variant:
    """A layer to train, on which engine and in which type."""

    name: str
    layer: nn.Module
    peer: str
    engine: str = ""
    autocast: bool = False

    def milliseconds(self, x: Tensor) -> float:
        """Take a training step."""
        training._forced = self.engine
        x = x.detach().requires_grad_()
        self.layer.zero_grad()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        with torch.autocast("cuda", torch.bfloat16, enabled=self.autocast):
            outputs = self.layer(x)[0]
        outputs.sum().backward()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    rows = []
    for width, batch, steps in itertools.product(args.width, args.batch, args.time):
        rows += measure(width, batch, steps, args.repeats)
    if args.out:
        found = provenance(device, torch.get_num_threads(), 1) | {"rows": rows}
        write_text(args.out / "gpu.json", json.dumps(found, indent=1) + "\n")
        write_text(args.out / "gpu.md", report(rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="steps timed per variant")
    parser.add_argument("--width", type=int, nargs="+", default=[256, 512, 800])
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--time", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--out", type=Path, help="folder for the figures and a table of them")
    return parser.parse_args()


def measure(width: int, batch: int, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Time every variant at one shape, print the rows and return them."""
    x = torch.randn(steps, batch, width, device="cuda")
    found = list(variants(width))
    times = medians({v.name: partial(v.milliseconds, x) for v in found}, repeats)
    rates = {v.name: flops(v.layer, steps * batch) / times[v.name] / 1e9 for v in found}
    print(f"\ntime {steps}, batch {batch}, width {width}\n{'':22}" + "  ".join(COLUMNS[1:]))
    rows = []
    for variant in found:
        row = {
            "width": width,
            "batch": batch,
            "time": steps,
            "variant": variant.name,
            "milliseconds": times[variant.name],
            "tflops": rates[variant.name],
            "of_lstm": rates[variant.name] / rates[variant.peer],
        }
        rows.append(row)
        print(f"{variant.name:22}" + "  ".join(cells(row)[1:]), flush=True)
    return rows


def variants(width: int) -> Iterator[Variant]:
    """What is compared at a shape."""
    lstm = nn.LSTM(width, width, device="cuda")
    layer = HLSTM(width, width, gate_hidden_sizes=(width,), device="cuda")
    yield Variant("nn.LSTM", lstm, "nn.LSTM")
    yield Variant("HLSTM", layer, "nn.LSTM")
    yield Variant("HLSTM, step by step", layer, "nn.LSTM", engine="torch")
    yield Variant("nn.LSTM, bfloat16", lstm, "nn.LSTM, bfloat16", autocast=True)
    yield Variant("HLSTM, bfloat16", layer, "nn.LSTM, bfloat16", autocast=True)


def flops(layer: nn.Module, positions: int) -> float:
    """Of a training step: the forward pass once, the backward pass twice."""
    weights = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    return 3 * 2 * weights * positions


def cells(row: dict[str, Any]) -> list[str]:
    return [
        row["variant"],
        f"{row['milliseconds']:.2f}",
        f"{row['tflops']:.1f}",
        f"{row['of_lstm']:.2f}",
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """A table for each shape, as Markdown."""
    title, _, notes = (" ".join(part.split()) for part in __doc__.strip().split("\n\n"))
    name = torch.cuda.get_device_name()
    lines = ["# Time of a training step on a GPU", "", f"{name}, torch {torch.__version__}."]
    lines[-1] += f" {title} {notes}"
    return "\n".join(lines) + "\n\n" + by_shape(rows, COLUMNS, cells)


if __name__ == "__main__":
    main()
