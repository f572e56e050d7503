"""`growprune export`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from growprune.cli.recognizers import run_language_model

if TYPE_CHECKING:
    from growprune.export import Packed


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

    Only the active connections are stored. The table says which layout each matrix got, and why.

    Example: growprune export runs/an4-hlstm-gp-seed0 -o model.safetensors
    """
    from growprune.tasks import pack_run

    console = Console()
    info = {}
    if lm_order:
        info["language_model"] = run_language_model(run, lm_order).to_json()
    with console.status(f"packing {run}"):
        packed = pack_run(run, layout=layout.value, weights=weights.value, info=info)
        packed.save(out)
    _show(console, packed)
    console.print(
        f"{out}: {out.stat().st_size / 1e6:.2f} MB\n"
        f"next: growprune transcribe {out} FILE...; growprune bench {out}",
        highlight=False,
        soft_wrap=True,
    )


def _show(console: Console, packed: "Packed") -> None:
    table = Table("matrix")
    for heading in ("shape", "kept", "bytes"):
        table.add_column(heading, justify="right")
    table.add_column("layout")
    table.add_column("why")
    for choice in packed.choices:
        rows, columns = choice.shape
        table.add_row(
            choice.name,
            f"{rows}x{columns}",
            f"{choice.active / (rows * columns):.1%}",
            f"{choice.nbytes:,}",
            choice.layout,
            choice.reason,
        )
    console.print(table, highlight=False)
