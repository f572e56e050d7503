"""`growprune train`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from growprune.data import open_corpus
from growprune.recipes import shipped_recipes


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a .toml file.")],
    data: Annotated[Path, typer.Option(help="The corpus: AN4's folder, or one of manifests.")],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/RECIPE-seedN if not given.")
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
    from growprune.tasks import open_recipe
    from growprune.tasks.speech import SpeechTask
    from growprune.training import save_local
    from growprune.training import train as run

    resolved = open_recipe(recipe, settings or [])
    out = out or Path("runs") / f"{resolved.name}-seed{seed}"
    console = Console(quiet=os.environ.get("RANK", "0") != "0")  # one voice under torchrun
    task = SpeechTask(resolved, open_corpus(data), seed)
    console.print(f"{resolved.name}: training into {out}", highlight=False, soft_wrap=True)
    try:
        record = run(task, out, seed=seed, resume=resume, console=console)
    except KeyboardInterrupt:
        console.print("interrupted; the same command with --resume goes on")
        raise typer.Exit(130) from None
    save_local(out, {"data": str(data.resolve()), "seed": seed})
    dev = record["scores"]["dev"]
    weights = record["cost"]["weights"]
    console.print(
        f"done in {record['seconds'] / 60:.1f} min: dev WER {dev['wer']:.2%}, "
        f"{weights['whole']:,} of {weights['whole_dense']:,} weights active\n"
        f"next: growprune evaluate {out}; growprune transcribe {out} FILE...; "
        f"growprune report {out}",
        highlight=False,
        soft_wrap=True,
    )


train.__doc__ = f"{train.__doc__}\n\nRecipes:\n\n" + "\n".join(
    f"- {name}: {summary}" for name, summary in shipped_recipes().items()
)
