"""Latency of packed layers and recognisers, beside other engines, on one thread.

    python benchmarks/latency.py --runs RUN... --data ../an4
    python benchmarks/latency.py --widths 512 --times 100 --rounds 5 --out /tmp/latency

Everything is measured in one process by turns. Before anything is timed, every engine's outputs are
compared with the plain equations'. Engines that are not installed are named and left out.
"""

# ruff: noqa: E402 (NumPy and torch read the environment when they are imported)
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from cells import KEPT, LAYOUTS, TIMES, WIDTHS, Row, measure_cells
from cold_start import measure_cold_start
from latency_report import plot, report, summary
from limits import Limits, measure_limits
from recognizers import measure_recognizers

from growprune import native
from growprune.bench.engines import one_thread
from growprune.bench.peers import PEERS
from growprune.data import open_corpus
from growprune.files import write_text
from growprune.training.record import provenance

SHOWN_WIDTH = 512


def main() -> None:
    args = parse_arguments()
    peers, left_out = available(args.peers)
    record: dict[str, Any] = {"machine": machine(peers)}
    print(f"{record['machine']['cpu']}, 1 thread, {native.kernel()} kernels")
    for text in left_out:
        print(f"left out: {text}")
    limits = measure_limits()
    with one_thread():
        rows = measure_grid(args, peers, limits)
        speeds = measure_recognizers(
            args.runs, args.untrained, args.data, args.utterances, args.rounds
        )
    record |= {
        "limits": limits.record(),
        "left_out": left_out,
        "cells": [row.record() for row in rows],
        "recognizers": [speed.record() for speed in speeds],
        "cold_start": cold_start(args),
        "speech": heard(args) if speeds else "",
    }
    write_text(args.out / "latency.json", json.dumps(record, indent=1) + "\n")
    write_text(args.out / "report.md", report(record))
    if rows:
        width = SHOWN_WIDTH if SHOWN_WIDTH in args.widths else args.widths[0]
        write_text(args.out / "summary.md", summary(record, width))
        plot(record, args.out / "latency.png")
    print(report(record))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS, help="inputs and units")
    parser.add_argument("--times", nargs="+", type=int, default=TIMES, help="steps; 1: a lone one")
    parser.add_argument("--kept", nargs="+", default=KEPT, help="shares of connections, as 1/10")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=9, help="turns of every engine")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="recognisers' folders")
    parser.add_argument(
        "--untrained", nargs="*", default=[], help="recipes of dense recognisers, as they are drawn"
    )
    parser.add_argument("--data", type=Path, help="their corpus; its dev split is heard")
    parser.add_argument("--utterances", type=int, default=10, help="of the dev split")
    parser.add_argument("--starts", type=int, default=5, help="of every program; 0: none")
    parser.add_argument("--out", type=Path, default=Path("results/runtime"))
    args = parser.parse_args()
    if (args.runs or args.untrained) and args.data is None:
        parser.error("--runs and --untrained need --data, the corpus whose dev split is heard")
    return args


def available(wanted: list[str]) -> tuple[list[str], list[str]]:
    """The peers that are installed, and how to install each of the others."""
    left_out = [
        f"{name} (pip install {' '.join(PEERS[name].missing)})"
        for name in wanted
        if PEERS[name].missing
    ]
    return [name for name in wanted if not PEERS[name].missing], left_out


def machine(peers: list[str]) -> dict[str, Any]:
    """Code, versions and hardware."""
    found = provenance(torch.device("cpu"), threads=1, processes=1)
    packages = {"growprune", "numpy", "torch"}
    packages |= {package for name in peers for package in PEERS[name].needs}
    return {
        "cpu": found["hardware"]["cpu"],
        "threads": 1,
        "kernel": native.kernel(),
        "commit": found["commit"],
        "dirty": found["dirty"],
        "versions": {name: version(name) for name in sorted(packages)},
    }


def measure_grid(args: argparse.Namespace, peers: list[str], limits: Limits) -> list[Row]:
    rows = []
    for width in args.widths:
        for time in args.times:
            print(f"LSTM-{width}, {time} steps ...", flush=True)
            rows += measure_cells(width, time, args.kept, args.layouts, peers, args.rounds, limits)
    return rows


def heard(args: argparse.Namespace) -> str:
    return f"{args.utterances} utterances of {args.data.name}'s dev split"


def cold_start(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Of the first run, hearing the first utterance of the dev split."""
    if not args.runs or not args.starts:
        return []
    audio = open_corpus(args.data).split("dev")[0].audio
    with tempfile.TemporaryDirectory() as folder:
        starts = measure_cold_start(args.runs[0], audio, Path(folder), args.starts)
    return [start.record() for start in starts]


if __name__ == "__main__":
    main()
