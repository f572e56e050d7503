"""`growprune train`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from growprune.recipes import shipped_recipes


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a .toml file.")],
    data: Annotated[Path, typer.Option(help="The corpus: its folder, or a file of captions.")],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/RECIPE-seedN if not given.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Features of the corpus's images, for captioning.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
) -> None:
    """Train a recipe on a corpus and leave weights, record and curves in a folder.

    Example: growprune train an4-hlstm-gp --data ../an4 --set training.epochs=90 --seed 1
    """
    from growprune.tasks import open_recipe, open_task
    from growprune.training import save_local
    from growprune.training import train as run

    resolved = open_recipe(recipe, settings or [])
    out = out or Path("runs") / f"{resolved.name}-seed{seed}"
    console = Console(quiet=os.environ.get("RANK", "0") != "0")  # one voice under torchrun
    task = open_task(resolved, data, features, seed)
    console.print(f"{resolved.name}: training into {out}", highlight=False, soft_wrap=True)
    try:
        record = run(task, out, seed=seed, resume=resume, console=console)
    except KeyboardInterrupt:
        console.print("interrupted; the same command with --resume goes on")
        raise typer.Exit(130) from None
    places = {"data": data, "features": features}
    save_local(out, {k: str(path.resolve()) for k, path in places.items() if path} | {"seed": seed})
    console.print(_closing(record, out), highlight=False, soft_wrap=True)


def _closing(record: Mapping[str, Any], out: Path) -> str:
    """What was reached, and what can be done next."""
    dev, weights = record["scores"]["dev"], record["cost"]["weights"]
    if record["task"] == "captioning":
        reached, use = f"dev CIDEr-D {dev['cider_d']:.3f}", f"growprune caption {out} IMAGE..."
    else:
        reached, use = f"dev WER {dev['wer']:.2%}", f"growprune transcribe {out} FILE..."
    return (
        f"done in {record['seconds'] / 60:.1f} min: {reached}, "
        f"{weights['whole']:,} of {weights['whole_dense']:,} weights active\n"
        f"next: growprune evaluate {out}; {use}; growprune report {out}"
    )


train.__doc__ = f"{train.__doc__}\n\nRecipes:\n\n" + "\n".join(
    f"- {name}: {summary}" for name, summary in shipped_recipes().items()
)
