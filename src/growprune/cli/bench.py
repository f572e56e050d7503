"""`growprune bench`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from growprune import native
from growprune.files import write_text
from growprune.metrics import cpu_name

if TYPE_CHECKING:
    from growprune.bench.packed import Figures


def bench(
    model: Annotated[Path, typer.Argument(help="A packed model.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sequence timed.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each engine has its turn.")] = 15,
    out: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.")
    ] = None,
) -> None:
    """Time a packed model, layer by layer and whole, beside the engines installed here.

    All run by turns in this process, on one thread, at batch 1; the engines compute the same
    outputs, but for one named "plain LSTM": a dense LSTM of the width of an H-LSTM.

    Example: growprune bench model.safetensors
    """
    from growprune.bench.engines import one_thread
    from growprune.bench.packed import measure, parts
    from growprune.runtime.packed_file import read

    console = Console()
    _say_what_is_missing(console)
    found = []
    with one_thread(), console.status("measuring") as status:
        for part in parts(read(model)):
            status.update(f"measuring {part.name}")
            found.append((measure(part, steps, rounds), measure(part, 1, rounds)))
    title = f"{model}, one thread of {cpu_name()}, {native.kernel()} kernels"
    console.print(_table(found, steps, title), highlight=False)
    if out is not None:
        rows = [figures.record() for pair in found for figures in pair]
        machine = {"cpu": cpu_name(), "threads": 1, "kernel": native.kernel()}
        write_text(out, json.dumps(machine | {"rows": rows}, indent=1) + "\n")


def _say_what_is_missing(console: Console) -> None:
    from growprune.bench.engines import missing
    from growprune.bench.packed import ENGINES

    for engine, packages in ENGINES.items():
        if absent := missing(*packages):
            console.print(f"left out: {engine} (pip install {' '.join(absent)})", highlight=False)


def _table(found: "list[tuple[Figures, Figures]]", steps: int, title: str) -> Table:
    """Two columns of times, for a step of a sequence and for a lone step."""
    table = Table(title=title, title_justify="left")
    table.add_column("part", overflow="fold")
    table.add_column("engine", overflow="fold")
    headings = (f"us a step of {steps}", "x ours", "us a lone step", "x ours")
    for heading in ("kept", "bytes", *headings):
        table.add_column(heading, justify="right")
    for sequence, lone in found:
        part = sequence.part
        name = f"{part.name} ({part.kind})" if part.kind else part.name
        kept, size = f"{part.active / part.connections:.1%}", f"{part.nbytes:,}"
        for engine in sequence.seconds:
            table.add_row(
                name, engine, kept, size, *_cells(sequence, engine), *_cells(lone, engine)
            )
            name = kept = size = ""
        table.add_section()
    return table


def _cells(figures: "Figures", engine: str) -> tuple[str, str]:
    warning = " (other outputs!)" if figures.differs(engine) else ""
    microseconds = 1e6 * figures.seconds[engine].median
    return f"{microseconds:.3g}{warning}", f"{figures.ratio(engine):.2f}"
