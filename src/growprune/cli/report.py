"""`growprune report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders or record files; the others are compared with the first."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The report's folder; RUN/report if not given.")
    ] = None,
) -> None:
    """Compare runs: a Markdown table, curves over the epochs, pictures of the connections.

    Example: growprune report runs/an4-lstm-seed0 runs/an4-hlstm-gp-seed0 --out results/an4
    """
    from growprune.reports import print_comparison, read_records, write_report
    from growprune.tasks import with_defaults

    console = Console()
    print_comparison(read_records(runs, with_defaults), console)
    page = write_report(runs, out or runs[0] / "report", with_defaults)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
