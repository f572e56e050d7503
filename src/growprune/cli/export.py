"""`growprune export`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from growprune.cli.recognizers import run_language_model
from growprune.errors import DataError

if TYPE_CHECKING:
    from growprune.export import Packed


LAYOUTS = ("dense", "csr", "blocks")


class Layout(StrEnum):
    """How matrices are stored."""

    auto = "auto"
    dense = "dense"
    csr = "csr"
    blocks = "blocks"


class Weights(StrEnum):
    """What a weight is stored as."""

    float32 = "float32"
    int8 = "int8"


def export(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The packed model's file, a .safetensors.")
    ],
    layout: Annotated[
        Layout, typer.Option(help="Layout of every matrix; auto: the one likely to be fastest.")
    ] = Layout.auto,
    weights: Annotated[
        Weights, typer.Option(help="float32, or int8 with a scale per row.")
    ] = Weights.float32,
    lm_order: Annotated[
        int,
        typer.Option(
            min=0, help="Pack an n-gram model of the training transcripts along; 0: none."
        ),
    ] = 0,
) -> None:
    """Pack a run's model into one file that runs without torch.

    Where it is faster only active connections are stored. The table says which layout each matrix
    got, by the estimated times beside it; matrices with another reason are named below it.

    Example: growprune export runs/an4-hlstm-gp-seed0 -o model.safetensors
    """
    from growprune.tasks import pack_run, task_of

    console = Console()
    info = {}
    if lm_order:
        if task_of(run) != "speech":
            raise DataError(f"{run}: only recognisers take --lm-order; leave it out")
        info["language_model"] = run_language_model(run, lm_order).to_json()
    with console.status(f"packing {run}"):
        packed = pack_run(run, layout=layout.value, weights=weights.value, info=info)
        packed.save(out)
    _show(console, packed, with_reasons=layout is Layout.auto)
    console.print(
        f"{out}: {out.stat().st_size / 1e6:.2f} MB\n"
        f"next: growprune {_next(packed, out)}; growprune bench {out}",
        highlight=False,
        soft_wrap=True,
    )


def _next(packed: "Packed", out: Path) -> str:
    """What the file is used by."""
    if packed.contents.info["task"] == "captioning":
        return f"caption {out} IMAGE..."
    return f"transcribe {out} FILE..."


def _show(console: Console, packed: "Packed", with_reasons: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column("matrix", overflow="fold")
    for heading in ("shape", "kept"):
        table.add_column(heading, justify="right")
    table.add_column("layout")
    for layout in LAYOUTS:
        table.add_column(layout, justify="right")
    table.caption = "On the right: estimated microseconds of a product with one vector."
    for choice in packed.choices:
        rows, columns = choice.shape
        table.add_row(
            choice.name,
            f"{rows}x{columns}",
            f"{choice.active / (rows * columns):.1%}",
            choice.layout,
            *(f"{choice.microseconds[layout]:.1f}" for layout in LAYOUTS),
        )
    console.print(table, highlight=False)
    for choice in packed.choices:
        estimates = choice.microseconds
        if with_reasons and estimates[choice.layout] > min(estimates.values()):
            console.print(str(choice), highlight=False, soft_wrap=True)
