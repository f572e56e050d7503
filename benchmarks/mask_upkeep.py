"""What keeping masks costs, as a share of a training step.

Trains copies of one `torch.nn.LSTM` with the bare optimizer and with `GrowPrune` in its phases.
All run interleaved in one process, so that a busy machine slows them alike; figures are medians.
"update" is the time of `optimizer.step()` or `GrowPrune.step()`; "upkeep" is how much longer the
update is than the bare optimizer's, and its share of the bare training step.

    python benchmarks/mask_upkeep.py --threads 1
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import describe, write_figures
from torch import Tensor, nn

from growprune.sparsity import GrowPrune, Plan

BARE = "bare optimizer"
PLANS = {
    "masks fixed": {},
    "growth phase": {"grow": {"epochs": 1, "interval": 10**9}},
    "a step that grows": {"grow": {"epochs": 1, "interval": 1, "fraction": 0.001}},
}


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(describe(args.threads))
    print(
        f"LSTM {args.width}, input {args.width}, batch {args.batch}, {args.time} steps, "
        f"{args.optimizer}, density {args.density}"
    )
    rows = measure(args)
    print(f"{'':20}{'step ms':>9}{'update ms':>11}{'upkeep ms':>11}{'upkeep %':>10}")
    for row in rows:
        print(
            f"{row['name']:20}{row['step_ms']:9.1f}{row['update_ms']:11.2f}"
            f"{row['upkeep_ms']:11.2f}{row['upkeep_percent']:10.2f}"
        )
    print(f"growing every {args.interval} steps: {amortised(rows, args.interval):.2f}%")
    if args.json:
        write_figures(args.json, args.threads, rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=21, help="steps timed per variant")
    parser.add_argument("--time", type=int, default=150, help="time steps of a sequence")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=512, help="inputs and units of the LSTM")
    parser.add_argument("--density", type=float, default=0.5)
    parser.add_argument("--interval", type=int, default=100, help="steps between two growths")
    parser.add_argument("--optimizer", choices=["Adam", "AdamW", "SGD"], default="Adam")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> list[dict[str, float | str]]:
    """Time every variant and compare its update with the bare optimizer's."""
    x = torch.randn(args.time, args.batch, args.width)
    variants = {BARE: variant(args, None)}
    variants |= {name: variant(args, Plan(**PLANS[name])) for name in PLANS}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(args.repeats + 2):
        for name, (model, update) in variants.items():
            taken[name].append(training_step(model, update, x))
    medians = {
        name: [1e3 * statistics.median(part) for part in zip(*times[2:], strict=True)]
        for name, times in taken.items()
    }
    bare_step, bare_update = medians[BARE]
    return [
        {
            "name": name,
            "step_ms": step,
            "update_ms": update,
            "upkeep_ms": update - bare_update,
            "upkeep_percent": 100 * (update - bare_update) / bare_step,
        }
        for name, (step, update) in medians.items()
    ]


def variant(args: argparse.Namespace, plan: Plan | None) -> tuple[nn.LSTM, Callable[[], object]]:
    """A model and what updates it."""
    model = nn.LSTM(args.width, args.width)
    options = {"momentum": 0.9} if args.optimizer == "SGD" else {}
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=1e-4, **options)
    if plan is None:
        return model, optimizer.step
    plan = plan.model_copy(update={"seed_density": args.density})
    return model, GrowPrune(model, optimizer, plan).step


def training_step(model: nn.LSTM, update: Callable[[], object], x: Tensor) -> tuple[float, float]:
    """Seconds of a whole training step and of its update alone."""
    start = time.perf_counter()
    model.zero_grad()
    model(x)[0].square().mean().backward()
    before_update = time.perf_counter()
    update()
    end = time.perf_counter()
    return end - start, end - before_update


def amortised(rows: list[dict[str, float | str]], interval: int) -> float:
    """Upkeep in percent with one growth every `interval` steps."""
    percent = {row["name"]: float(row["upkeep_percent"]) for row in rows}
    growing, grown = percent["growth phase"], percent["a step that grows"]
    return growing + (grown - growing) / interval


if __name__ == "__main__":
    main()
