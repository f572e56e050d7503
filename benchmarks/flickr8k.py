"""Flickr8k's records beside the published figures, as tables and a plot of CIDEr-D against weights.

    python benchmarks/flickr8k.py results/flickr8k/records/*.json --out results/flickr8k

What `benchmarks/captioner_cells.py` and `benchmarks/captioning.py` left in the folder is told as
well. Everything was chosen on the dev split. Where OUT/merge-steps and OUT/steps hold records of
the trials of flickr8k-merge-steps.toml and flickr8k-steps.toml, tables and plots of dev scores
follow.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from captioner_cells import REFERENCE
from steps import WHOLE, Steps
from tables import markdown, minutes, origin, plot_over_weights, spread

from growprune.errors import RecipeError
from growprune.files import write_text
from growprune.metrics import totals
from growprune.reports import Record, read_records
from growprune.reports.record import Cost, group_by_recipe
from growprune.tasks import open_recipe, with_defaults
from growprune.tasks.captioning import CaptioningRecipe
from growprune.tasks.captioning.model import CaptionModel
from growprune.tasks.captioning.task import WORDS_PER_CAPTION

STACKED = "neuraltalk-lstm-3"
LSTMS = ("neuraltalk-lstm", "neuraltalk-lstm-2", STACKED)
SEARCHES = {"greedy": "", "beam 3": "/beam 3", "penalty": "/beam 3, length penalty 0.8"}
SPLITS = {"dev": "dev", "test": "test", "MSCOCO": "coco_sample: all"}
SHOWN, SHOWN_COLUMN = "test/beam 3", "test, beam 3"

STEPS = Steps(
    file=Path(__file__).with_name("flickr8k-steps.toml"),
    others=("small-dense-lstm", "small-dense-hlstm", "narrower"),
    curves={
        "blocks of 16": ("density-0025", WHOLE, "density-020"),
        "single connections": ("single-0025", "single", "single-020"),
    },
    score="cider_d",
    column="dev CIDEr-D",
    scored="CIDEr-D",
    weights="recurrent",
    counted="recurrent layers",
    heading="What each step and each trick is worth without merging, in five epochs",
)
MERGE_STEPS = replace(
    STEPS,
    file=Path(__file__).with_name("flickr8k-merge-steps.toml"),
    others=(),
    curves={
        "blocks of 16": ("density-0025", WHOLE, "density-020"),
        "single connections": ("single",),
    },
    folder="merge-steps",
    heading="What each step is worth in 14 epochs of neuraltalk-hlstm-merge",
)

Group = tuple[str, Sequence[Record]]
Factors = Mapping[str, tuple[float, float]]
"""How many times as fast a step of a recipe's cell is: greedily, and with a beam of 3."""


@dataclass(frozen=True)
class Published:
    """What others found, relative to their dense baseline; MSCOCO.

    Attributes:
        name: models and source.
        weights: how many times fewer the cell has.
        flops: likewise, with zeros skipped.
        latency: how many times lower it is.
        cider: points gained.
    """

    name: str
    weights: float
    flops: float
    latency: float
    cider: float


PUBLISHED = Published("three H-LSTMs (Dai et al., arXiv 1805.11797)", 38.7, 45.5, 4.5, 2.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/flickr8k"))
    args = parser.parse_args()
    groups = group_by_recipe(read_records(args.records, with_defaults))
    ranked = sorted(groups.items(), key=lambda group: group[1][0].cost.weights.recurrent)
    parts = ["# Flickr8k", size_table(ranked, cell_factors(args.out / "cells.json"))]
    parts += [score_table(ranked), notes(ranked)]
    if any(SHOWN in run.scores for _, runs in ranked for run in runs):
        plot(ranked, args.out / "cider.png")
        parts.append("![Test CIDEr-D against the cell's weights](cider.png)")
    for title, file in {"A step of the cell": "cells.md", "A caption": "latency.md"}.items():
        if (args.out / file).exists():
            parts.append(f"## {title}\n\n{(args.out / file).read_text(encoding='utf-8').strip()}")
    text = "\n\n".join(parts) + "\n"
    text += MERGE_STEPS.sections(args.out) + STEPS.sections(args.out)
    write_text(args.out / "README.md", text)
    print(text)


def size_table(groups: Sequence[Group], faster: Factors) -> str:
    """What every recipe takes, and how many times less than the stacked LSTM's that is."""
    head = ("model", "cell weights", "fewer", "cell MFLOP", "fewer", "... zeros skipped", "fewer")
    head += ("cell faster", "... beam 3", "decoder weights", "fewer", "min")
    costs = [(name, runs[0].cost, runs) for name, runs in groups]
    base = next((cost for name, cost, _ in costs if name == STACKED), None)
    if base is None:
        base = untrained_cost(groups[0][1][0])
        costs.append((f"{STACKED} (not trained)", base, ()))
    published = (
        f"{PUBLISHED.weights}x",
        "",
        "",
        "",
        f"{PUBLISHED.flops}x",
        f"{PUBLISHED.latency}x",
    )
    rows = [head, (PUBLISHED.name, "", *published, *[""] * (len(head) - 8))]
    for name, cost, runs in costs:
        flops, dense = cost.flops_per_caption, base.flops_per_caption
        skipped = [
            run.cost.flops_per_caption.recurrent_measured
            for run in runs
            if run.cost.flops_per_caption.recurrent_measured is not None
        ]
        factors = faster.get(name.split(" (")[0], ())
        rows.append(
            (
                name,
                *counted(cost.weights.recurrent, base.weights.recurrent, 1e3, "k"),
                *counted(flops.recurrent, dense.recurrent, 1e6),
                *(counted(statistics.mean(skipped), dense.recurrent, 1e6) if skipped else ("", "")),
                *([f"{factor:.1f}x" for factor in factors] or ("", "")),
                *counted(cost.weights.whole, base.weights.whole, 1e3, "k"),
                minutes(runs) if runs else "",
            )
        )
    return markdown(rows)


def score_table(groups: Sequence[Group]) -> str:
    """CIDEr-D of every recipe, in brackets the difference from the best of the LSTMs."""
    columns = {
        f"{split}, {search}": f"{key}{suffix}"
        for split, key in SPLITS.items()
        for search, suffix in SEARCHES.items()
    }
    found = {
        column: {name: scores(runs, score) for name, runs in groups}
        for column, score in columns.items()
    }
    found = {column: of for column, of in found.items() if any(of.values())}
    gain = f"(+{PUBLISHED.cider})"
    published = (gain if column == SHOWN_COLUMN else "" for column in found)
    rows = [("CIDEr-D", *found), (PUBLISHED.name, *published)]
    rows += [(name, *(score_cell(name, of) for of in found.values())) for name, _ in groups]
    return markdown(rows)


def score_cell(name: str, of: Mapping[str, Sequence[float]]) -> str:
    """A recipe's scores out of those of all."""
    best = max((statistics.mean(of[lstm]) for lstm in LSTMS if of.get(lstm)), default=None)
    if not of[name] or best is None or name in LSTMS:
        return spread(of[name])
    return f"{spread(of[name])} ({statistics.mean(of[name]) - best:+.1f})"


def scores(runs: Sequence[Record], score: str) -> list[float]:
    """The runs' CIDEr-D of that name, 100 for 1.0; none where the split was learnt from."""
    if score.split("/")[0] in runs[0].learnt_splits:
        return []
    return [100 * run.scores[score]["cider_d"] for run in runs if score in run.scores]


def counted(value: float, base: float, unit: float, sign: str = "") -> tuple[str, str]:
    """A number, and how many times less than the stacked LSTM's it is."""
    return f"{value / unit:,.1f}{sign}", f"{base / value:.1f}x"


def untrained_cost(record: Record) -> Cost:
    """What the stacked LSTM takes, for the features and words of a record."""
    shapes = {matrix.name: matrix.shape for matrix in record.matrices}
    recipe = open_recipe(STACKED)
    assert isinstance(recipe, CaptioningRecipe)
    with torch.device("meta"):
        model = CaptionModel(recipe.model, shapes["image.weight"][1], shapes["embedding.weight"][0])
    return Cost.model_validate(totals(model.operations({}, WORDS_PER_CAPTION), "caption"))


def cell_factors(path: Path) -> Factors:
    """Of every recipe that `captioner_cells.py` timed, packed, to its first one in onnxruntime."""
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    seconds: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        key = row["model"].split(" (")[0].split("-seed")[0], row["engine"]
        seconds.setdefault(key, {})[row["rows"]] = row["seconds"]["median"]
    base = seconds[rows[0]["model"].split(" (")[0].split("-seed")[0], REFERENCE]
    return {
        name: (base[1] / of[1], base[3] / of[3])
        for (name, engine), of in seconds.items()
        if engine == "packed"
    }


def notes(groups: Sequence[Group]) -> str:
    """How to read the tables, and where each row comes from."""
    lines = [
        "CIDEr-D of 100 stands for 1.0; penalty: beam 3 and a length penalty of 0.8. Mean ± sample "
        "standard deviation where there are several seeds; in brackets the difference from the "
        f"best of {', '.join(LSTMS)} in that column.",
        "Cell: the recurrent layers. Weights: active connections and biases. MFLOP: of a caption "
        f"of {WORDS_PER_CAPTION} words, two operations per active connection and use; zeros "
        "skipped: without those that meet a zero behind the gates' ReLU, counted on test "
        "photographs. Decoder: with the embeddings and the output layer, the encoder left out.",
        f"Fewer: than {STACKED}. Faster: {STACKED} in onnxruntime takes so many times as long as "
        "the packed cell, for a lone step on one thread.",
        "Theirs: relative to their own dense decoder, on MSCOCO; three models share the gains.",
    ]
    for name, runs in groups:
        teachers = runs[0].recipe.get("loss", {}).get("teachers", ())
        names = ", ".join(Path(teacher).name for teacher in teachers)
        lines.append(
            origin(name, runs)
            + (f"; learnt from {names} as well" if names else "")
            + (f"; trained with {was}" if (was := outdated(runs[0])) else "")
        )
    return "\n".join(f"- {line}" for line in lines)


def outdated(run: Record) -> str:
    """The settings that a run had and its recipe has no more, in words; empty where there are none.

    Teachers and machines are told elsewhere; what the former weigh and words about the recipe are
    left out.
    """
    try:
        now = dict(leaves(open_recipe(run.recipe["name"]).model_dump(mode="json")))
    except RecipeError:  # there is none of that name
        return ""
    beside = {"summary", "loss.teachers", "loss.distill"}
    beside |= {"training.threads", "training.accelerator"}
    then = {
        key: value
        for key, value in leaves(run.recipe)
        if key not in beside and value != now.get(key, value)
    }
    had = ", ".join(f"{key} = {value}" for key, value in then.items())
    has = ", ".join(str(now[key]) for key in then)
    return f"{had}, where the recipe has {has} by now" if then else ""


def leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a recipe by their dotted names."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield above + key, value


def plot(groups: Sequence[Group], path: Path) -> None:
    """Test CIDEr-D against the weights of the cell, every seed a point."""
    with plot_over_weights(
        path, "weights of the recurrent layers", "test CIDEr-D x 100, beam 3"
    ) as axes:
        for name, runs in groups:
            found = [run for run in runs if SHOWN in run.scores]
            weights = [run.cost.weights.recurrent for run in found]
            axes.plot(weights, scores(found, SHOWN) if found else [], "o", label=name)
        axes.set_xscale("log")


if __name__ == "__main__":
    main()
