"""Where the time of an epoch goes: parts of a recipe's training steps, dense and as pruned.

    python benchmarks/epoch.py an4-hlstm-gp --data ../an4 --steps 40 --out results/training/an4
    python benchmarks/epoch.py neuraltalk-hlstm-gp --data ../flickr8k --features FILE.npz

Steps of the recipe's second epoch, after as many to warm up. A recipe with a plan is measured
twice: at its seed density, and pruned to its last. Each state's steps are taken with the compiled
kernels and with torch's products in their place. "Recurrent" are the passes of the recurrent layers
within forward and backward, from torch's profiler over the same steps once more.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import describe, write_figures
from torch.profiler import ProfilerActivity, profile

from growprune.files import write_text
from growprune.native import training
from growprune.sparsity import GrowPrune
from growprune.tasks import open_recipe, open_task
from growprune.training import Recipe, Task
from growprune.training.loop import build_optimizer

PARTS = ("load", "forward", "backward", "update")
CPU = torch.device("cpu")


class Stepper:
    """A recipe's model with what trains it.

    Args:
        recipe: of any task.
        task: the recipe on its data.
        steps: how many are measured.
    """

    def __init__(self, recipe: Recipe, task: Task, steps: int) -> None:
        torch.manual_seed(0)
        self.task = task
        self.clip = recipe.training.max_grad_norm
        self.model = task.build_model().train()
        self.optimizer = build_optimizer(self.model, recipe.training.optimizer)
        self.growprune = None
        if recipe.plan is not None:
            self.growprune = GrowPrune(
                self.model, self.optimizer, recipe.plan, seed=0, max_grad_norm=self.clip
            )
        self.batches = task.batches(1)[:steps]

    def prune(self) -> None:
        """Go through the plan up to its last density."""
        assert self.growprune is not None
        held = 0.0 if self.task.mode == "min" else 1e9  # whatever accuracy a round asks for
        while self.growprune.phase in ("grow", "rewire", "prune"):
            self.growprune.end_epoch(held)

    def seconds(self, engine: str) -> dict[str, float]:
        """Seconds a step spends in each part, and in the recurrent layers."""
        training._engine = engine
        self._run()
        spent = self._run()
        with profile(activities=[ProfilerActivity.CPU]) as found:
            self._run()
        passes = [row for row in found.key_averages() if row.key.startswith("_Recurrence")]
        spent["recurrent"] = sum(row.cpu_time_total for row in passes) / 1e6
        return {part: value / len(self.batches) for part, value in spent.items()}

    def _run(self) -> dict[str, float]:
        spent = dict.fromkeys(PARTS, 0.0)
        for batch in self.batches:
            clock = time.perf_counter()
            for part in self._step(batch):
                now = time.perf_counter()
                spent[part] += now - clock
                clock = now
        return spent

    def _step(self, batch: list[int]) -> Iterator[str]:
        loaded = self.task.load(batch, 1)
        yield "load"
        loss = self.task.loss(self.model, loaded, CPU)
        yield "forward"
        self.optimizer.zero_grad()
        loss.backward()
        yield "backward"
        if self.growprune:
            self.growprune.step()
        else:
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
        yield "update"


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    rows = [row for name in args.recipes for row in measure(name, args)]
    text = report(rows, args.threads)
    if args.out:
        write_figures(args.out / "epoch.json", args.threads, rows)
        write_text(args.out / "epoch.md", text)
    print(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", help="names, or files")
    parser.add_argument("--data", type=Path, required=True, help="their corpus")
    parser.add_argument("--features", type=Path, help="of its images")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a folder for epoch.json and epoch.md")
    return parser.parse_args()


def measure(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each state of the recipe's network."""
    recipe = open_recipe(name)
    stepper = Stepper(recipe, open_task(recipe, args.data, args.features), args.steps)
    rows = rows_of(recipe, stepper)
    if stepper.growprune:
        stepper.prune()
        rows += rows_of(recipe, stepper)
    return rows


def rows_of(recipe: Recipe, stepper: Stepper) -> list[dict[str, Any]]:
    """What is measured of a network as it is, by each engine."""
    density = stepper.growprune.density() if stepper.growprune else 1.0
    return [
        {"recipe": recipe.name, "engine": engine, "density": density} | stepper.seconds(engine)
        for engine in training.ENGINES
    ]


def report(rows: list[dict[str, Any]], threads: int) -> str:
    """A table, as Markdown."""
    names = (*PARTS, "recurrent")
    lines = ["# Parts of a training step", "", f"{describe(threads)}. Milliseconds.", ""]
    lines.append("| recipe | density | engine | step | " + " | ".join(names) + " |")
    lines.append("| --- | ---: | --- |" + " ---: |" * (1 + len(names)))
    for row in rows:
        step = sum(row[part] for part in PARTS)
        values = " | ".join(f"{1e3 * value:.1f}" for value in (step, *(row[n] for n in names)))
        lines.append(f"| {row['recipe']} | {row['density']:.3f} | {row['engine']} | {values} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
